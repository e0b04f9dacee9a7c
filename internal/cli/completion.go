package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/iamproxy/iamproxy/internal/text"
)

// PrintCompletion prints the completion script of a shell: bash, zsh or fish.
func (p *Parser) PrintCompletion(shell string) error {
	scripts := map[string]func() string{"bash": p.bashScript, "zsh": p.zshScript, "fish": p.fishScript}
	_, err := io.WriteString(p.Stdout, scripts[shell]())
	return err
}

// visibleCommands returns the commands that help shows.
func (p *Parser) visibleCommands() (commands []*kong.Node) {
	for _, command := range p.Model.Children {
		if !command.Hidden {
			commands = append(commands, command)
		}
	}
	return commands
}

func names(commands []*kong.Node) (names []string) {
	for _, command := range commands {
		names = append(names, command.Name)
	}
	return names
}

// candidates returns the words that a value can be, and whether it can be a file.
func (p *Parser) candidates(value *kong.Value) (words []string, isFile bool) {
	switch form := value.Tag.Get("form"); form {
	case "command":
		return names(p.visibleCommands()), false
	case "tls":
		return []string{"off", "self-signed"}, true
	default:
		return enum(value), form == "file"
	}
}

// firstSentence returns the first sentence of a help text, without its period.
func firstSentence(help string) string {
	sentence, _, _ := strings.Cut(help, ". ")
	return strings.TrimSuffix(sentence, ".")
}

// bashScript returns the script for bash 3.2 and later. bash splits words at =.
func (p *Parser) bashScript() string {
	var s strings.Builder
	fmt.Fprintf(&s, `# bash completion of %[1]s, for: source <(%[1]s completion bash)
_%[1]s() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= IFS=$' \t\n'
    COMPREPLY=()
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    if ((COMP_CWORD > 1)); then
        command=${COMP_WORDS[1]}
    fi
    case $prev in
`, program)
	var files, free []string
	done := map[string]bool{}
	for _, node := range p.nodes() {
		for _, flag := range node.Flags {
			if flag.IsBool() || flag.Hidden || done[flag.Name] {
				continue
			}
			done[flag.Name] = true
			words, isFile := p.candidates(flag.Value)
			switch {
			case len(words) > 0:
				fmt.Fprintf(&s, "    --%s)\n        COMPREPLY=($(compgen -W '%s' -- \"$cur\"))\n", flag.Name, strings.Join(words, " "))
				if isFile {
					s.WriteString("        compopt -o filenames 2>/dev/null\n        IFS=$'\\n'\n        COMPREPLY+=($(compgen -f -- \"$cur\"))\n")
				}
				s.WriteString("        return\n        ;;\n")
			case isFile:
				files = append(files, "--"+flag.Name)
			default:
				free = append(free, "--"+flag.Name)
			}
		}
	}
	fmt.Fprintf(&s, "    %s)\n        compopt -o filenames 2>/dev/null\n        IFS=$'\\n'\n        COMPREPLY=($(compgen -f -- \"$cur\"))\n        return\n        ;;\n", strings.Join(files, "|"))
	fmt.Fprintf(&s, "    %s)\n        return\n        ;;\n    esac\n    local flags words=\n    case $command in\n", strings.Join(free, "|"))
	commands := p.visibleCommands()
	for _, command := range append(slices.DeleteFunc(slices.Clone(commands), p.isDefault), p.Model.DefaultCmd) {
		pattern := command.Name
		if p.isDefault(command) {
			pattern = "*"
		}
		fmt.Fprintf(&s, "    %s)\n        flags='%s'\n", pattern, strings.Join(flagWords(command), " "))
		if len(command.Positional) > 0 {
			if words, _ := p.candidates(command.Positional[0]); len(words) > 0 {
				fmt.Fprintf(&s, "        words='%s'\n", strings.Join(words, " "))
			}
		}
		s.WriteString("        ;;\n")
	}
	fmt.Fprintf(&s, `    esac
    if ((COMP_CWORD == 1)); then
        words='%s'
    elif ((COMP_CWORD > 2)); then
        words=
    fi
    if [[ $cur == -* ]]; then
        words=$flags
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _%[2]s %[2]s
`, strings.Join(names(commands), " "), program)
	return s.String()
}

func (p *Parser) isDefault(command *kong.Node) bool { return command == p.Model.DefaultCmd }

// flagWords returns the flags of a command as they are written.
func flagWords(command *kong.Node) (words []string) {
	for _, flag := range flagsOf(command) {
		words = append(words, "--"+flag.Name)
	}
	return words
}

// zshScript returns the script for zsh, to be sourced or to be a file of $fpath.
func (p *Parser) zshScript() string {
	var s strings.Builder
	fmt.Fprintf(&s, "#compdef %[1]s\n# zsh completion of %[1]s, for: source <(%[1]s completion zsh)\n_%[1]s() {\n    local -a subcommands specs\n    subcommands=(\n", program)
	commands := p.visibleCommands()
	for _, command := range commands {
		fmt.Fprintf(&s, "        %s\n", text.ShellQuote(command.Name+":"+firstSentence(command.Help)))
	}
	s.WriteString(`    )
    if ((CURRENT == 2)) && [[ $words[2] != -* ]]; then
        _describe -t commands command subcommands
        return
    fi
    case $words[2] in
`)
	for _, command := range append(slices.DeleteFunc(slices.Clone(commands), p.isDefault), p.Model.DefaultCmd) {
		pattern := command.Name
		if p.isDefault(command) {
			pattern = "*"
		}
		fmt.Fprintf(&s, "    %s)\n        specs=(\n", pattern)
		for _, flag := range flagsOf(command) {
			fmt.Fprintf(&s, "            %s\n", text.ShellQuote(p.zshFlag(flag)))
		}
		for _, argument := range command.Positional {
			words, _ := p.candidates(argument)
			fmt.Fprintf(&s, "            %s\n", text.ShellQuote("*:"+argumentName(argument)+":"+zshAction(words, false, "()")))
		}
		s.WriteString("        )\n        ;;\n")
	}
	fmt.Fprintf(&s, `    esac
    if ((${#${(M)subcommands:#$words[2]:*}})); then
        shift words
        ((CURRENT--))
    fi
    _arguments : $specs
}
if [[ $funcstack[1] == _%[1]s ]]; then
    _%[1]s "$@"
else
    compdef _%[1]s %[1]s
fi
`, program)
	return s.String()
}

// zshFlag returns a flag as an argument of _arguments.
func (p *Parser) zshFlag(flag *kong.Flag) string {
	help := strings.NewReplacer("[", `\[`, "]", `\]`, ":", `\:`).Replace(firstSentence(flag.Help))
	if flag.IsBool() {
		return fmt.Sprintf("--%s[%s]", flag.Name, help)
	}
	words, isFile := p.candidates(flag.Value)
	value := strings.ReplaceAll(placeholder(flag), ":", `\:`)
	return fmt.Sprintf("--%s=[%s]:%s:%s", flag.Name, help, value, zshAction(words, isFile, " "))
}

// zshAction returns what completes a value. If nothing does, it is none: "()", or " " to show the
// name of the value.
func zshAction(words []string, isFile bool, none string) string {
	switch {
	case isFile && len(words) > 0:
		return "{compadd " + strings.Join(words, " ") + "; _files}"
	case isFile:
		return "_files"
	case len(words) > 0:
		return "(" + strings.Join(words, " ") + ")"
	default:
		return none
	}
}

// fishScript returns the script for fish.
func (p *Parser) fishScript() string {
	var s strings.Builder
	fmt.Fprintf(&s, "# fish completion of %[1]s, for ~/.config/fish/completions/%[1]s.fish\ncomplete -c %[1]s -f\n", program)
	commands := p.visibleCommands()
	all := strings.Join(names(commands), " ")
	for _, command := range commands {
		fmt.Fprintf(&s, "complete -c %s -n __fish_is_first_token -a %s -d %s\n", program, command.Name, fishQuote(firstSentence(command.Help)))
	}
	for _, command := range commands {
		condition := "__fish_seen_subcommand_from " + command.Name
		if p.isDefault(command) {
			others := strings.Join(names(slices.DeleteFunc(slices.Clone(commands), p.isDefault)), " ")
			condition = "not __fish_seen_subcommand_from " + others
		}
		for _, flag := range flagsOf(command) {
			fmt.Fprintf(&s, "complete -c %s -n '%s' -l %s", program, condition, flag.Name)
			if flag.Short != 0 {
				fmt.Fprintf(&s, " -s %c", flag.Short)
			}
			words, isFile := p.candidates(flag.Value)
			switch {
			case flag.IsBool():
			case isFile:
				s.WriteString(" -r -F")
			default:
				s.WriteString(" -x")
			}
			if len(words) > 0 && !flag.IsBool() {
				fmt.Fprintf(&s, " -a '%s'", strings.Join(words, " "))
			}
			fmt.Fprintf(&s, " -d %s\n", fishQuote(firstSentence(flag.Help)))
		}
		for _, argument := range command.Positional {
			if words, _ := p.candidates(argument); len(words) > 0 {
				fmt.Fprintf(&s, "complete -c %s -n '%s; and not __fish_seen_subcommand_from %s' -a '%s'\n", program, condition, without(words, all), strings.Join(words, " "))
			}
		}
	}
	return s.String()
}

// without returns the words of an argument that are not commands, too: these say that it is given.
func without(words []string, commands string) string {
	var rest []string
	for _, word := range words {
		if !slices.Contains(strings.Fields(commands), word) {
			rest = append(rest, word)
		}
	}
	return strings.Join(rest, " ")
}

// fishQuote quotes text for fish.
func fishQuote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}
