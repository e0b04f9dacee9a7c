package check

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Command lines are for a POSIX shell. Placeholders for the user are in CAPITAL_LETTERS.

// line returns the command line of another iamproxy command for the same endpoint and user.
func (r *run) line(command, region string, options ...string) string {
	line := "iamproxy " + command + " " + quote(r.endpointIn(region)) + " --user " + quote(r.User)
	for _, word := range options {
		line += " " + quote(word)
	}
	return line
}

// again returns the command line of this check with more options.
func (r *run) again(more ...string) string {
	return r.checkIn(r.Region, r.Options.Sign, more...)
}

// checkIn returns the command line of this check in a region and with other credentials.
func (r *run) checkIn(region string, sign []string, more ...string) string {
	var database []string
	if r.Database != "postgres" {
		database = []string{"--database", r.Database}
	}
	return r.line("check", region, slices.Concat(database, sign, r.Options.Reach, more)...)
}

// endpointIn returns the ENDPOINT of a command line. It has the region only if that is not
// the one in the name.
func (r *run) endpointIn(region string) string {
	text := r.Host
	if r.Port != "5432" {
		text += ":" + r.Port
	}
	separator := "?"
	if region != r.Name.Region {
		text += separator + "region=" + region
		separator = "&"
	}
	if r.Target != "" {
		text += separator + "target=" + r.Target
		separator = "&"
	}
	if r.Dialer.DirectTLS {
		text += separator + "sslnegotiation=direct"
	}
	return text
}

// commandLine returns the words of a command, quoted for a shell.
func commandLine(words ...string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = quote(word)
	}
	return strings.Join(quoted, " ")
}

// awsLine returns the command line of the AWS CLI with the profile and region of this check.
func (r *run) awsLine(words ...string) string {
	return "aws " + commandLine(words...) + " --region " + r.Region + r.profileFlag()
}

func (r *run) profileFlag() string {
	if r.Options.Profile == "" {
		return ""
	}
	return " --profile " + quote(r.Options.Profile)
}

// advice returns text as a comment of a shell. It must not contain text of a server, since
// an interactive zsh runs comments as commands by default.
func advice(text string) string {
	return "# " + cmp.Or(text, "the log of the database may say more")
}

var harmless = regexp.MustCompile(`^[A-Za-z0-9_./:=@%+,-]+$`)

// quote returns word quoted for a shell. The empty word is not quoted.
func quote(word string) string {
	if word == "" || harmless.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// quoteSQL returns name as a quoted SQL identifier.
func quoteSQL(name string) string { return pgx.Identifier{name}.Sanitize() }
