// Package cli parses the command line of iamproxy, which a struct describes as for package kong.
// Errors, help, shell completion and the manual page are made from the same description.
package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/iamproxy/iamproxy/internal/text"
)

// ErrShown is the error of a command line that only asks for help, or for the version.
var ErrShown = errors.New("help was shown")

// Parser parses command lines.
type Parser struct {
	*kong.Kong
	rejected  error                  // why a value could not be decoded
	resetting bool                   // values are those of variables or defaults
	implicit  bool                   // the default command is not named
	variables map[*kong.Value]string // those whose values are used
}

// New returns a parser of commands, which points to a struct of kong.
func New(commands any, stdout, stderr io.Writer, options ...kong.Option) (*Parser, error) {
	p := &Parser{}
	var err error
	p.Kong, err = kong.New(commands, append(options,
		kong.Name(program),
		kong.DefaultEnvars("IAMPROXY"),
		kong.Writers(stdout, stderr),
		kong.Help(func(_ kong.HelpOptions, shown *kong.Context) error { return p.PrintHelp(shown.Selected()) }),
		kong.Exit(func(int) { panic(ErrShown) }),
		kong.WithBeforeReset(func() error { p.resetting = true; return nil }),
		kong.Bind(p),
	)...)
	if err != nil {
		return nil, err
	}
	p.Model.HelpFlag.Help = "Show this help."
	for _, node := range p.nodes() {
		for _, flag := range node.Flags {
			flag.Mapper = decoder{flag.Mapper, p, flag.Value}
		}
		for _, argument := range node.Positional {
			argument.Mapper = decoder{argument.Mapper, p, argument}
		}
	}
	return p, nil
}

// nodes returns the root and all commands.
func (p *Parser) nodes() []*kong.Node { return append([]*kong.Node{p.Model.Node}, p.Model.Children...) }

// Parse parses a command line and the environment. It returns ErrShown if the command line was
// answered, and else an error of one line that repeats no value that could be a secret.
func (p *Parser) Parse(args []string) (parsed *kong.Context, err error) {
	defer func() {
		if r := recover(); r != nil {
			if r != any(ErrShown) { // kong has no other way to stop after --help
				panic(r)
			}
			parsed, err = nil, ErrShown
		}
	}()
	unknown := p.checkEnvironment()
	p.rejected, p.resetting, p.implicit = nil, false, !slices.Contains(args, p.Model.DefaultCmd.Name)
	p.variables = make(map[*kong.Value]string)
	parsed, err = p.Kong.Parse(args)
	if err != nil {
		return nil, p.describe(err)
	}
	if unknown != "" && !parsed.Selected().Tag.Has("anyenv") {
		return nil, p.unknownVariable(unknown)
	}
	return parsed, nil
}

// describe returns the error of a command line that kong has rejected. It does not use the text
// of kong's error, which repeats values.
func (p *Parser) describe(err error) error {
	var rejected *kong.ParseError
	var output *fs.PathError // of --help and --version
	switch {
	case errors.As(err, &output):
		return output
	case p.rejected != nil:
		return p.rejected
	case !errors.As(err, &rejected):
		return fmt.Errorf("the command line cannot be parsed; see %s --help", program)
	}
	command := rejected.Context.Selected()
	if command == nil {
		command = p.Model.DefaultCmd
	}
	if rejected.Context.Error == nil { // all words are parsed, so one is missing
		for _, argument := range command.Positional {
			if argument.Required && !argument.Set {
				return missingArgument(command, argument)
			}
		}
		return fmt.Errorf("the command line is not complete; see %s %s --help", program, command.Name)
	}
	path := rejected.Context.Path
	rest := path[len(path)-1].Remainder()
	if len(rest) > 1 && rest[0] == "--" {
		rest = rest[1:]
	}
	switch {
	case len(rest) == 0:
		return fmt.Errorf("the command line cannot be parsed; see %s %s --help", program, command.Name)
	case len(rest[0]) > 1 && rest[0][0] == '-':
		return p.unknownFlag(command, rest)
	case p.command(rest[0]) != nil:
		return p.commandFirst(p.command(rest[0]))
	case isSwitchValue(rest[0]):
		return fmt.Errorf("unexpected argument %s; the value of a flag that is true or false comes after =, as in --require-tls=false", rest[0])
	case len(command.Positional) == 0:
		return fmt.Errorf("%s takes no arguments", command.Name)
	case command.Positional[0].IsCumulative():
		return errors.New("unexpected argument; endpoints must stand together, before or after the flags")
	default:
		return fmt.Errorf("%s takes one %s", command.Name, argumentName(command.Positional[0]))
	}
}

// isSwitchValue reports whether a word may be meant as the value of a flag that needs none.
var isSwitchValue = text.Matching(`^(true|false|yes|no|on|off)$`)

// command returns the command with a name, or nil.
func (p *Parser) command(name string) *kong.Node {
	for _, node := range p.Model.Children {
		if node.Name == name {
			return node
		}
	}
	return nil
}

// Find returns the command with a name, or nil for the empty name.
func (p *Parser) Find(name string) (*kong.Node, error) {
	command := p.command(name)
	if command == nil && name != "" {
		return nil, p.unknownCommand(name)
	}
	return command, nil
}

func (p *Parser) unknownCommand(name string) error {
	if closest := text.Closest(strings.ToLower(name), names(p.visibleCommands())); closest != "" {
		return fmt.Errorf("unknown command %s; did you mean %q?%s", text.Plain.Quote(name), closest, endpointAdvice())
	}
	return fmt.Errorf("unknown command %s.%s", text.Plain.Quote(name), endpointAdvice())
}

func endpointAdvice() string {
	return fmt.Sprintf(" An endpoint looks like mydb.cluster-....rds.amazonaws.com. See %s --help", program)
}

func (p *Parser) commandFirst(command *kong.Node) error {
	return fmt.Errorf("the command comes first: %s", p.usage(command))
}

func missingArgument(command *kong.Node, argument *kong.Value) error {
	example := "HOST"
	if words := enum(argument); len(words) > 0 {
		example = words[0]
	}
	for _, flag := range command.Flags {
		if flag.Name == "user" {
			example += " --user app"
		}
	}
	name := argumentName(argument)
	article := "a"
	if strings.ContainsAny(name[:1], "AEIO") {
		article = "an"
	}
	return fmt.Errorf("%s needs %s %s: %s %s %s", command.Name, article, name, program, command.Name, example)
}

// flagName matches what an error can repeat of a flag.
var flagName = text.Regexp(`^(--[a-z][a-z-]{1,30}|-[A-Za-z])`)

// unknownFlag returns the error for the flag in words[0]. The next word may be its value.
func (p *Parser) unknownFlag(command *kong.Node, words []string) error {
	given, value, hasValue := strings.Cut(words[0], "=")
	if !hasValue && len(words) > 1 {
		value = words[1]
	}
	shown := flagName().FindString(given)
	name := strings.TrimLeft(shown, "-")
	if strings.HasPrefix(given, "--") && shown != given {
		shown, name = text.NotShown(given), strings.ToLower(strings.TrimLeft(given, "-"))
	}
	var names []string
	for _, flag := range flagsOf(command) {
		names = append(names, flag.Name)
	}
	if long := strings.TrimLeft(given, "-"); slices.Contains(names, long) { // -listen, as Go's package flag has it
		return fmt.Errorf("unknown flag -%s; did you mean --%s?", long, long)
	}
	if advice, ok := foreignFlag(name); ok && (advice.Flag == "" || slices.Contains(names, advice.Flag)) {
		return fmt.Errorf("unknown flag %s; %s", shown, advice.fill(value))
	}
	if closest := text.Closest(name, names); closest != "" {
		return fmt.Errorf("unknown flag %s; did you mean --%s?", shown, closest)
	}
	var others []string
	for _, other := range p.Model.Children {
		if slices.ContainsFunc(other.Flags, func(flag *kong.Flag) bool { return flag.Name == name && !flag.Hidden }) {
			others = append(others, other.Name)
		}
	}
	if others != nil {
		return fmt.Errorf("unknown flag %s: it is a flag of %s, not of %s", shown, strings.Join(others, ", "), command.Name)
	}
	return fmt.Errorf("unknown flag %s; see %s %s --help", shown, program, command.Name)
}

var isPortNumber = text.Matching(`^[0-9]{1,5}$`)

func (h hint) fill(value string) string {
	if !isPortNumber(value) {
		value = "PORT"
	}
	return strings.ReplaceAll(h.Text, "{}", value)
}

// flagsOf returns the flags of a command that its help shows, those of all commands last.
func flagsOf(command *kong.Node) (flags []*kong.Flag) {
	for _, level := range slices.Backward(command.AllFlags(true)) {
		flags = append(flags, level...)
	}
	return flags
}

// checkEnvironment unsets empty variables of the program, which templates of deployments leave
// behind. It returns the name of an unknown variable: a misspelled name must not be ignored.
func (p *Parser) checkEnvironment() (unknown string) {
	known := p.knownVariables()
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		switch {
		case !strings.HasPrefix(name, "IAMPROXY_"):
		case slices.Contains(known, name) && value == "":
			os.Unsetenv(name)
		case !slices.Contains(known, name) && !IsKubernetesLink(variable):
			unknown = name
		}
	}
	return unknown
}

// knownVariables returns the names of all variables.
func (p *Parser) knownVariables() (names []string) {
	for _, node := range p.nodes() {
		for _, flag := range node.Flags {
			names = append(names, flag.Envs...)
		}
		for _, argument := range node.Positional {
			names = append(names, argument.Tag.Envs...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// settingName matches the name of a flag or of the argument ENDPOINT.
var settingName = text.Regexp(`--[a-z][a-z-]*[a-z]|\bENDPOINT\b`)

// NameVariables replaces the names of flags and arguments in an error about their values. Where a
// variable has the value, its name takes their place.
func (p *Parser) NameVariables(command *kong.Node, message string) string {
	variables := make(map[string]string)
	for _, flag := range command.Flags {
		variables["--"+flag.Name] = p.variables[flag.Value]
	}
	for _, argument := range command.Positional {
		variables[argumentName(argument)] = p.variables[argument]
	}
	return settingName().ReplaceAllStringFunc(message, func(setting string) string {
		return cmp.Or(variables[setting], setting)
	})
}

// unknownVariable returns the error for a variable that is not of the program.
func (p *Parser) unknownVariable(name string) error {
	flag := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "IAMPROXY_")), "_", "-")
	advice, ok := foreignFlag(flag)
	switch {
	case slices.Contains(endpointFlags, flag):
		return fmt.Errorf("unknown environment variable %s; did you mean %s?", name, p.Model.DefaultCmd.Positional[0].Tag.Envs[0])
	case ok && advice.Flag == "":
		return fmt.Errorf("unknown environment variable %s; %s", name, advice.Text)
	case ok:
		return fmt.Errorf("unknown environment variable %s; did you mean IAMPROXY_%s?", name, strings.ToUpper(strings.ReplaceAll(advice.Flag, "-", "_")))
	}
	if closest := text.Closest(name, p.knownVariables()); closest != "" {
		return fmt.Errorf("unknown environment variable %s; did you mean %s?", name, closest)
	}
	return fmt.Errorf("unknown environment variable %s; %s --help lists the flags, each of which has one", name, program)
}

// IsKubernetesLink reports whether a variable, with its value, is one that Kubernetes sets in
// each pod for services called iamproxy or iamproxy-*.
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
var IsKubernetesLink = text.Matching(`^IAMPROXY_([A-Z0-9_]+_)?(` +
	`SERVICE_HOST=[0-9a-f.:]+|` +
	`SERVICE_PORT(_[A-Z0-9_]+)?=[0-9]+|` +
	`PORT=(tcp|udp|sctp)://.*|` +
	`PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=.*)$`)
