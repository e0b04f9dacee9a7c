package check

import (
	"regexp"
	"strings"
	"unicode"
)

// Lines to paste are for a POSIX shell. What whoever reads has to fill in is in CAPITAL_LETTERS.

// line is another command for the same endpoint and user, whose region is another than its
// name's only if it has to be said.
func (w *walk) line(command, region string, options []string, more ...string) string {
	words := []string{quote(w.endpointIn(region)), "--user", quote(w.User)}
	if command == "iamproxy check" && w.Database != "postgres" {
		words = append(words, "--database", quote(w.Database))
	}
	for _, word := range append(append(append([]string{}, options...), w.Options.Reach...), more...) {
		words = append(words, quote(word))
	}
	return command + " " + strings.Join(words, " ")
}

// again is this check once more, but for something.
func (w *walk) again(more ...string) string {
	return w.line("iamproxy check", w.Region, w.Options.Sign, more...)
}

// endpointIn is the ENDPOINT of a command line.
func (w *walk) endpointIn(region string) string {
	text := w.Host
	if w.Port != "5432" {
		text += ":" + w.Port
	}
	separator := "?"
	if region != w.Name.Region {
		text += separator + "region=" + region
		separator = "&"
	}
	if w.Proxy.DirectTLS {
		text += separator + "sslnegotiation=direct"
	}
	return text
}

// awsLine is a command of the AWS CLI, as who signs.
func (w *walk) awsLine(words ...string) string {
	line := "aws"
	for _, word := range words {
		line += " " + quote(word)
	}
	return line + " --region " + w.Region + w.profileFlag()
}

func (w *walk) profileFlag() string {
	if w.Options.Profile == "" {
		return ""
	}
	return " --profile " + quote(w.Options.Profile)
}

// inWords is advice that is no command, and as harmless as one that does nothing.
func inWords(advice string) string {
	if advice == "" {
		return ""
	}
	return "# " + advice
}

var harmless = regexp.MustCompile(`^[A-Za-z0-9_./:=@%+,-]+$`)

// quote is a word as a shell takes it; of nothing, nothing.
func quote(word string) string {
	if word == "" || harmless.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// quoteSQL is a name as SQL has it.
func quoteSQL(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// oneLine keeps what others say (a server's message, a certificate's name) from doing
// anything to a terminal: control characters, and those that hide others or turn them around.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }), " ")
}
