package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// PrintManual prints the manual page in the macros of man(7).
func (p *Parser) PrintManual(version string) error {
	var m strings.Builder
	title := strings.ToUpper(program)
	fmt.Fprintf(&m, ".TH %s 1 \"\" \"%s %s\" \"User Commands\"\n", title, program, roff(version))
	fmt.Fprintf(&m, ".SH NAME\n%s \\- %s\n.SH SYNOPSIS\n.nf\n", program, roff(summary))
	for _, usage := range usages {
		fmt.Fprintf(&m, "%s\n", roff(usage))
	}
	m.WriteString(".fi\n.SH DESCRIPTION\n")
	m.WriteString(roff(strings.ReplaceAll(about, "\n\n", "\n.PP\n")) + "\n")
	manualExample(&m, ".SH EXAMPLES", examples)
	m.WriteString(".SH COMMANDS\n")
	for _, command := range p.visibleCommands() {
		fmt.Fprintf(&m, ".SS \"%s\"\n%s\n", roff(p.usage(command)), roff(command.Help))
		manualExample(&m, "", commandExamples[command.Name])
		if !p.isDefault(command) {
			p.manualFlags(&m, command.Flags)
		}
	}
	m.WriteString(".SH OPTIONS\n")
	for _, group := range p.groups(p.Model.DefaultCmd) {
		fmt.Fprintf(&m, ".SS %s\n", roff(group.title))
		p.manualFlags(&m, group.flags)
	}
	fmt.Fprintf(&m, ".SH ENVIRONMENT\n%s\n", roff(variables))
	fmt.Fprintf(&m, ".SH \"EXIT STATUS\"\n%s\n", roff(exitCodes))
	fmt.Fprintf(&m, ".SH \"SEE ALSO\"\n%s\n", roff(docsURL))
	_, err := io.WriteString(p.Stdout, m.String())
	return err
}

func (p *Parser) manualFlags(m *strings.Builder, flags []*kong.Flag) {
	for _, flag := range flags {
		if flag.Hidden {
			continue
		}
		fmt.Fprintf(m, ".TP\n.B %s\n%s\n", roff(flagUsage(flag)), roff(flag.Help))
		for _, variable := range flag.Envs {
			fmt.Fprintf(m, "Variable: %s.\n", roff(variable))
		}
	}
}

func manualExample(m *strings.Builder, heading, lines string) {
	if lines == "" {
		return
	}
	if heading == "" {
		heading = ".PP"
	}
	fmt.Fprintf(m, "%s\n.nf\n.RS\n%s\n.RE\n.fi\n", heading, roff(strings.TrimSpace(lines)))
}

// roff escapes text: backslashes, hyphens that must remain ASCII, and lines that begin as requests.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "'") || strings.HasPrefix(line, ".") && line != ".PP" {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
