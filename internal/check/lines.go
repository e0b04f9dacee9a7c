package check

import (
	"cmp"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/internal/text"
)

// Command lines are for a POSIX shell. Placeholders for the user are in CAPITAL_LETTERS.

// line returns the command line of another iamproxy command for the same endpoint and user.
func (r *run) line(command, region string, options ...string) string {
	line := "iamproxy " + command + " " + text.ShellQuote(r.endpointIn(region)) + " --user " + text.ShellQuote(r.User)
	for _, word := range options {
		line += " " + text.ShellQuote(word)
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
	address := r.Host
	if r.Port != "5432" {
		address += ":" + r.Port
	}
	separator := "?"
	if region != r.Name.Region {
		address += separator + "region=" + region
		separator = "&"
	}
	if r.Target != "" {
		address += separator + "target=" + r.Target
		separator = "&"
	}
	if r.Dialer.DirectTLS {
		address += separator + "sslnegotiation=direct"
	}
	return address
}

// awsLine returns the command line of the AWS CLI with the profile and region of this check.
func (r *run) awsLine(words ...string) string {
	return "aws " + text.ShellCommand(words...) + " --region " + r.Region + r.profileFlag()
}

func (r *run) profileFlag() string {
	if r.Options.Profile == "" {
		return ""
	}
	return " --profile " + text.ShellQuote(r.Options.Profile)
}

// advice returns a sentence as a comment of a shell. It must not contain text of a server, since
// an interactive zsh runs comments as commands by default.
func advice(sentence string) string {
	return "# " + cmp.Or(sentence, "the log of the database may say more")
}

// quoteSQL returns name as a quoted SQL identifier.
func quoteSQL(name string) string { return pgx.Identifier{name}.Sanitize() }
