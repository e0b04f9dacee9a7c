package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// The columns of help.
const (
	helpWidth  = 80
	leftColumn = 28 // of flags
)

// PrintHelp prints the help of a command, or that of the program if command is nil or the default.
func (p *Parser) PrintHelp(command *kong.Node) error {
	w := &helpWriter{out: p.Stdout}
	if command == nil || command == p.Model.DefaultCmd {
		p.printProgram(w)
	} else {
		p.printCommand(w, command)
	}
	return w.err
}

func (p *Parser) printProgram(w *helpWriter) {
	for i, usage := range usages {
		if i == 0 {
			w.line("Usage: " + usage)
		} else {
			w.line("       " + usage)
		}
	}
	for paragraph := range strings.SplitSeq(about, "\n\n") {
		w.line("")
		w.wrapped(0, "", paragraph)
	}
	w.block("Examples", examples)
	w.line("")
	w.line("Commands:")
	for _, command := range p.visibleCommands() {
		w.wrapped(14, "  "+command.Name, command.Help)
	}
	p.printFlags(w, p.Model.DefaultCmd)
	w.line("")
	w.wrapped(0, "", variables)
	w.line("")
	w.wrapped(0, "", "Exit codes: "+exitCodes)
	w.line("")
	w.line(fmt.Sprintf("Help of a command: %s COMMAND --help", program))
	w.line("Documentation: " + docsURL)
}

func (p *Parser) printCommand(w *helpWriter, command *kong.Node) {
	w.line("Usage: " + p.usage(command))
	w.line("")
	w.wrapped(0, "", command.Help)
	w.block("Examples", commandExamples[command.Name])
	if len(command.Positional) > 0 {
		w.line("")
		w.line("Arguments:")
		for _, argument := range command.Positional {
			w.wrapped(leftColumn, "  "+argumentName(argument), argument.Help)
		}
	}
	p.printFlags(w, command)
	if slices.ContainsFunc(command.Flags, func(flag *kong.Flag) bool { return len(flag.Envs) > 0 }) {
		w.line("")
		w.wrapped(0, "", variables)
	}
}

// usage returns the command line of a command.
func (p *Parser) usage(command *kong.Node) string {
	words := []string{program, command.Name}
	for _, argument := range command.Positional {
		name := argumentName(argument)
		if list := enum(argument); len(list) > 0 {
			name = strings.Join(list, "|")
		}
		if argument.IsCumulative() {
			name += "..."
		}
		if !argument.Required {
			name = "[" + name + "]"
		}
		words = append(words, name)
	}
	words = append(words, "[flags]")
	if tail := command.Tag.Get("tail"); tail != "" {
		words = append(words, tail)
	}
	return strings.Join(words, " ")
}

// flagGroup is the flags below one title.
type flagGroup struct {
	title string
	flags []*kong.Flag
}

// groups returns the flags of a command in groups. Those without a group come first if the
// command has any, and else last.
func (p *Parser) groups(command *kong.Node) (groups []flagGroup) {
	plain := flagGroup{title: "Other flags"}
	for _, flag := range flagsOf(command) {
		if flag.Group == nil {
			plain.flags = append(plain.flags, flag)
		}
	}
	for _, title := range groupTitles {
		group := flagGroup{title: title}
		for _, flag := range flagsOf(command) {
			if flag.Group != nil && flag.Group.Key == title {
				group.flags = append(group.flags, flag)
			}
		}
		if len(group.flags) > 0 {
			groups = append(groups, group)
		}
	}
	if slices.Contains(command.Flags, plain.flags[0]) || len(groups) == 0 {
		plain.title = "Flags"
		return slices.Insert(groups, 0, plain)
	}
	return append(groups, plain)
}

func (p *Parser) printFlags(w *helpWriter, command *kong.Node) {
	for _, group := range p.groups(command) {
		w.line("")
		w.line(group.title + ":")
		for _, flag := range group.flags {
			w.wrapped(leftColumn, "  "+flagUsage(flag), flag.Help)
		}
	}
}

// flagUsage returns the names of a flag and its placeholder.
func flagUsage(flag *kong.Flag) string {
	usage := "--" + flag.Name
	if flag.Short != 0 {
		usage = "-" + string(flag.Short) + ", " + usage
	}
	if !flag.IsBool() {
		usage += " " + placeholder(flag)
	}
	return usage
}

// helpWriter writes lines of at most helpWidth columns.
type helpWriter struct {
	out io.Writer
	err error
}

func (w *helpWriter) line(text string) {
	if w.err == nil {
		_, w.err = fmt.Fprintln(w.out, text)
	}
}

// block writes lines with a title, as they are.
func (w *helpWriter) block(title, lines string) {
	if lines == "" {
		return
	}
	w.line("")
	w.line(title + ":")
	for line := range strings.SplitSeq(strings.TrimSpace(lines), "\n") {
		w.line(strings.TrimRight("  "+line, " "))
	}
}

// wrapped writes text in lines that begin at column indent, the first of them after left.
func (w *helpWriter) wrapped(indent int, left, text string) {
	if utf8.RuneCountInString(left)+2 > indent && left != "" {
		w.line(left)
		left = ""
	}
	line := left + strings.Repeat(" ", indent-utf8.RuneCountInString(left))
	empty := true
	for word := range strings.FieldsSeq(text) {
		switch {
		case empty:
			line += word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > helpWidth:
			w.line(line)
			line = strings.Repeat(" ", indent) + word
		default:
			line += " " + word
		}
		empty = false
	}
	w.line(line)
}
