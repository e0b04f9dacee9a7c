package check

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Lines to paste are for a POSIX shell. What whoever reads has to fill in is in CAPITAL_LETTERS.

// line is another command of iamproxy's for the same endpoint and user.
func (w *walk) line(command, region string, options ...string) string {
	line := "iamproxy " + command + " " + quote(w.endpointIn(region)) + " --user " + quote(w.User)
	for _, word := range options {
		line += " " + quote(word)
	}
	return line
}

// again is this check once more, but for something.
func (w *walk) again(more ...string) string {
	return w.checkIn(w.Region, w.Options.Sign, more...)
}

// checkIn is this check once more, in another region or as another identity. A region is
// only said if it is another than the name's.
func (w *walk) checkIn(region string, sign []string, more ...string) string {
	var database []string
	if w.Database != "postgres" {
		database = []string{"--database", w.Database}
	}
	return w.line("check", region, slices.Concat(database, sign, w.Options.Reach, more)...)
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
	if w.Target != "" {
		text += separator + "target=" + w.Target
		separator = "&"
	}
	if w.Proxy.DirectTLS {
		text += separator + "sslnegotiation=direct"
	}
	return text
}

// commandLine is a command as a shell takes it.
func commandLine(words ...string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = quote(word)
	}
	return strings.Join(quoted, " ")
}

// awsLine is a command of the AWS CLI, as who signs.
func (w *walk) awsLine(words ...string) string {
	return "aws " + commandLine(words...) + " --region " + w.Region + w.profileFlag()
}

func (w *walk) profileFlag() string {
	if w.Options.Profile == "" {
		return ""
	}
	return " --profile " + quote(w.Options.Profile)
}

// inWords is advice that is no command: a comment to most shells. Nothing that a server
// says is in it, since zsh takes it for a command by default.
func inWords(advice string) string {
	return "# " + cmp.Or(advice, "the log of the database may say more")
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
func quoteSQL(name string) string { return pgx.Identifier{name}.Sanitize() }
