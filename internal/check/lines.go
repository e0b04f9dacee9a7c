package check

import (
	"cmp"

	"github.com/iamproxy/iamproxy/internal/endpoint"
	"github.com/iamproxy/iamproxy/internal/text"
)

// Command lines are for a POSIX shell. Placeholders for the user are in CAPITAL_LETTERS.

// again returns the command line of this check with more options.
func (r *run) again(more ...string) string { return checkLine(r.suggested(), r.CAFile, more...) }

// suggested returns the endpoint for command lines: in the region of its name.
func (r *run) suggested() endpoint.Endpoint {
	e := r.Endpoint
	e.Region = cmp.Or(e.Name.Region, e.Region)
	return e
}

// checkLine returns the command line of check for an endpoint.
func checkLine(e endpoint.Endpoint, caFile string, more ...string) string {
	line := e.CheckCommand("", "", caFile)
	if len(more) > 0 {
		line += " " + text.ShellCommand(more...)
	}
	return line
}

// ofAccount returns the command line of this check with credentials of the database's account.
func (r *run) ofAccount() string {
	e := r.suggested()
	e.Signer = endpoint.Signer{Profile: "PROFILE_OF_ITS_ACCOUNT"}
	return checkLine(e, r.CAFile)
}

// awsLine returns the command line of the AWS CLI with the profile and region of this check.
func (r *run) awsLine(words ...string) string {
	return "aws " + text.ShellCommand(words...) + " --region " + r.suggested().Region + r.profileFlag()
}

func (r *run) profileFlag() string {
	if r.Endpoint.Signer.Profile == "" {
		return ""
	}
	return " --profile " + text.ShellQuote(r.Endpoint.Signer.Profile)
}

// advice returns sentences as a comment of a shell. They must not contain text of a server, since
// an interactive zsh runs comments as commands by default.
func advice(sentences string) string {
	return commentPrefix + cmp.Or(sentences, "Look for the cause in the log of the database.")
}

const commentPrefix = "# "
