package cli

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/alecthomas/kong"

	"github.com/iamproxy/iamproxy/internal/text"
)

// form describes the values of a flag or an argument, by the tag form of its field. What does not
// have it is not decoded, so errors of the commands can repeat their values.
type form struct {
	want    string                 // what to give, after "give only"
	key     string                 // of a secret of RDS that contains it
	matches func(word string) bool // of each word; nil if it may be any
	allowed []text.Shape
	urls    func(word string) bool // reports whether a URL, or what looks like one, is allowed
	isName  bool                   // in PostgreSQL: without control characters
	// commands reports whether a word can contain exec:COMMAND.
	commands bool
}

var (
	printable = text.Matching(`^[^\pC]*$`)
	address   = text.Matching(`^(off|unix:[^\pC]*|(([A-Za-z0-9_-]+\.)+[A-Za-z0-9_-]+|localhost|\[[0-9A-Fa-f:.]*\]|[0-9.]*)?(:([0-9]{0,6}|[a-z]{1,8}))?|[0-9A-Fa-f:.]*)$`)
)

// isAssignment reports whether a word sets a variable.
var isAssignment = text.Matching(`^[A-Za-z_][A-Za-z0-9_]*=`)

var forms = map[string]form{
	"endpoint":    {want: "its HOST[:PORT]; user and database stay in the client, or go into --user and --database", key: "host", commands: true, allowed: []text.Shape{text.Query}},
	"via":         {want: "HOST:PORT, socks5://HOST:PORT, ssm://TARGET or exec:COMMAND", key: "host", commands: true, urls: text.Matching(`(?i)^\s*(socks5h?|ssm)://`)},
	"region":      {want: "the region, such as eu-west-1", matches: text.Region.Matches},
	"profile":     {want: "the name of the profile", matches: printable},
	"role":        {want: "the ARN of the role", allowed: []text.Shape{text.ARN}},
	"external-id": {want: "the external ID", allowed: []text.Shape{text.UserAndHost, text.Assignment}, matches: printable},
	"secret":      {want: "the ARN of the secret, or managed", allowed: []text.Shape{text.ARN}, matches: text.Matching(`^(managed|arn:[A-Za-z0-9:/_+=,.@!-]+)$`)},
	"user":        {want: "the name of the user", key: "username", isName: true},
	"name":        {want: "the name", key: "dbname", isName: true},
	"address":     {want: "HOST:PORT, or off", key: "host", matches: address},
	"listen":      {want: "HOST:PORT, or unix:DIR", key: "host", matches: address, urls: text.Matching(`^unix:@`)},
	"networks":    {want: "addresses and networks such as 10.0.0.0/16", matches: text.Matching(`^([0-9A-Fa-f.:/ ]*|[a-z]{1,8}|([a-z0-9-]+\.)+[a-z0-9-]+)$`)},
	"users":       {want: "the names or numbers of users", matches: text.Matching(`^[A-Za-z0-9_.@+\\ -]*\$?$`)},
	"file":        {want: "the name of a file that exists", matches: isFile},
	"password":    {want: "the name of the file", matches: printable}, // an error does not contain the name
	"tls":         {want: "off, self-signed, or CERT.pem,KEY.pem", matches: areFiles},
	"template":    {want: "NAME=TEMPLATE", matches: isAssignment, urls: isAssignment}, // of any shape
	"mode":        {want: "an octal mode such as 0660", matches: text.Matching(`^[0-9]{1,6}$`)},
	"account":     {want: "the 12 digits of an AWS account", matches: text.Matching(`^[0-9 -]{1,20}$`)},
	"id":          {want: "the resource ID", matches: text.Matching(`^((cluster|db|prx)-[A-Za-z0-9]*|[a-z][a-z0-9-]{0,62})$`)},
}

// isFile reports whether word names a file that exists, or has the form of a path. A password in
// place of it does neither, as a rule.
func isFile(word string) bool {
	if text.Path.Matches(word) || word == "-" {
		return true
	}
	_, err := os.Stat(word)
	return err == nil
}

// areFiles reports whether the parts of word name files, or word is none of them.
func areFiles(word string) bool {
	cert, key, isPair := strings.Cut(word, ",")
	return !isPair || cert == "" || key == "" || isFile(strings.TrimSpace(cert)) && isFile(strings.TrimSpace(key))
}

// decoder decodes a value as kong does. Its errors name the flag or the variable.
type decoder struct {
	kong.Mapper
	parser *Parser
	value  *kong.Value
}

// Decode records the error, since kong wraps it in a text that repeats the value of a variable. It
// ignores a variable if the command line has the value.
func (d decoder) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	if d.parser.resetting && d.value.Set {
		return nil
	}
	if variable := d.variable(); d.parser.resetting && variable != "" {
		d.parser.variables[d.value] = variable
	}
	err := d.decode(ctx, target)
	if err != nil {
		d.parser.rejected = err
	}
	return err
}

func (d decoder) decode(ctx *kong.DecodeContext, target reflect.Value) error {
	words, err := d.words(ctx.Scan)
	if err != nil {
		return err
	}
	for _, word := range words {
		if d.parser.resetting && d.variable() == "" {
			break // it is the default
		}
		if err := d.check(word); err != nil {
			return d.orSpace(word, err)
		}
	}
	if err := d.Mapper.Decode(ctx, target); err != nil {
		word := strings.Join(words, " ")
		return d.orSpace(word, d.notOfType(target, word))
	}
	return nil
}

// orSpace returns the error for white space around a word that was rejected with err, as a file
// with the line ends of Windows leaves it behind, or err. White space is not seen in a value.
func (d decoder) orSpace(word string, err error) error {
	trimmed := strings.TrimSpace(word)
	if strings.Trim(trimmed, ",") == "" || trimmed == word || text.ShapeOf(word) != "" {
		return err
	}
	return fmt.Errorf("%s: remove the space or line break around the value", d.name())
}

// words returns the words that will be decoded: the value of a flag, or all arguments in a row.
func (d decoder) words(scan *kong.Scanner) (words []string, err error) {
	switch next := scan.Peek(); {
	case d.value.IsBool():
		if next.Type == kong.FlagValueToken {
			words = append(words, next.String())
		}
	case d.value.Flag != nil && !next.IsValue():
		missing := fmt.Sprintf("--%s needs a value: --%s %s", d.value.Name, d.value.Name, placeholder(d.value.Flag))
		if !next.IsEOL() {
			missing += fmt.Sprintf("; write one that begins with a hyphen as --%s=-...", d.value.Name)
		}
		return nil, errors.New(missing)
	default:
		for _, token := range scan.PeekAll() {
			if !token.IsValue() || d.value.Flag != nil && len(words) == 1 {
				break
			}
			words = append(words, token.String())
		}
	}
	return words, nil
}

// variable returns the variable that is set for the value, or "".
func (d decoder) variable() string {
	for _, variable := range d.value.Tag.Envs {
		if _, ok := os.LookupEnv(variable); ok {
			return variable
		}
	}
	return ""
}

// name returns the name of the flag, the argument or the variable that has the value.
func (d decoder) name() string {
	switch variable := d.variable(); {
	case d.parser.resetting && variable != "":
		return variable
	case d.value.Flag != nil:
		return "--" + d.value.Name
	default:
		return argumentName(d.value)
	}
}

// check returns an error for a word that cannot be what the flag or argument is for.
func (d decoder) check(word string) error {
	form := forms[d.value.Tag.Get("form")]
	shape := text.ShapeOf(word)
	isURL := form.urls != nil && form.urls(word)
	if shape == "" && !form.commands && text.HasCommand(word) {
		shape = text.Command
	}
	if shape != "" && !isURL && !slices.Contains(form.allowed, shape) {
		return d.shapeError(form, shape)
	}
	if words := enum(d.value); len(words) > 0 {
		if !slices.Contains(words, word) && word != d.value.Default {
			return fmt.Errorf("%s: %s is not one of %s", d.name(), text.Plain.Quote(word), strings.Join(words, ", "))
		}
		return nil
	}
	if d.value.Tag.Get("form") == "endpoint" && strings.Trim(word, " \t,") == "" && !d.parser.resetting {
		return fmt.Errorf("%s is empty, as an unset variable of the shell is", d.name())
	}
	if d.value.Flag == nil {
		if err := d.checkCommand(word); err != nil {
			return err
		}
	}
	if form.isName && strings.ContainsFunc(word, unicode.IsControl) {
		return fmt.Errorf("%s: a name must not have control characters", d.name())
	}
	parts := []string{word}
	if d.value.IsSlice() {
		parts = strings.Split(word, string(d.value.Tag.Sep))
	}
	for _, part := range parts {
		if part != "" && form.matches != nil && !form.matches(part) {
			return fmt.Errorf("%s %s: must be %s", d.name(), text.NotShown(part), form.want)
		}
	}
	return nil
}

// shapeError returns the error for a value that is a document, a URL and the like, and not a word.
func (d decoder) shapeError(form form, shape text.Shape) error {
	name := d.name()
	isVariable := d.parser.resetting // defaults have no shape
	want := form.want
	if want == "" {
		want = "the value"
	}
	switch {
	case d.value.Tag.Get("form") == "secret" && isVariable:
		return fmt.Errorf("%s is %s: give the secret's ARN; in ECS, put it under environment, not under secrets", name, shape)
	case shape == text.JSON && isVariable:
		key := form.key
		if key == "" {
			key = "KEY"
		}
		return fmt.Errorf("%s is %s: in ECS, write the secret's ARN with :%s:: after it", name, shape, key)
	case shape == text.ARN && isVariable:
		return fmt.Errorf("%s is %s: give only %s; in ECS, the ARN of a secret goes under secrets, not under environment", name, shape, want)
	default:
		return fmt.Errorf("%s is %s: give only %s", name, shape, want)
	}
}

// checkCommand returns an error for an argument that was meant to be a command.
func (d decoder) checkCommand(word string) error {
	p := d.parser
	if strings.ContainsAny(word[:min(3, len(word))], "\u2010\u2011\u2012\u2013\u2014\u2212") {
		return errors.New("a word begins with a dash that some programs write in place of hyphens; write --")
	}
	switch {
	case p.resetting || !p.implicit || !slices.Contains(p.Model.DefaultCmd.Positional, d.value) || strings.ContainsAny(word, ".:?/,"):
		return nil
	case p.command(word) != nil:
		return p.commandFirst(p.command(word))
	}
	return p.unknownCommand(word)
}

// notOfType returns the error for a word that the type of the value does not allow.
func (d decoder) notOfType(target reflect.Value, word string) error {
	quoted := text.Number.Quote(word)
	switch target.Interface().(type) {
	case time.Duration:
		if isBareNumber(word) {
			return fmt.Errorf("%s %s: add a unit, e.g. %ss", d.name(), word, word)
		}
		return fmt.Errorf("%s: %s is not a duration such as 30s or 5m", d.name(), quoted)
	case int:
		return fmt.Errorf("%s: %s is not a whole number", d.name(), quoted)
	case float64:
		return fmt.Errorf("%s: %s is not a number", d.name(), quoted)
	case bool:
		return fmt.Errorf("%s: %s is not true or false", d.name(), quoted)
	default:
		return fmt.Errorf("%s %s: the value cannot be used", d.name(), text.NotShown(word))
	}
}

var isBareNumber = text.Matching(`^[0-9]{1,7}(\.[0-9]{1,3})?$`)

// enum returns the words that a value can be, without the empty one.
func enum(value *kong.Value) []string {
	if value.Enum == "" {
		return nil
	}
	return slices.DeleteFunc(value.EnumSlice(), func(word string) bool { return word == "" })
}

// placeholder returns the placeholder for the value of a flag in help.
func placeholder(flag *kong.Flag) string {
	switch {
	case flag.PlaceHolder != "":
		return flag.PlaceHolder
	case flag.Default != "":
		return flag.Default
	default:
		return strings.ToUpper(flag.Name)
	}
}

// argumentName returns the name of an argument in help and errors.
func argumentName(argument *kong.Value) string { return strings.ToUpper(argument.Name) }
