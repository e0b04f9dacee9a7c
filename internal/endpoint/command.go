package endpoint

import (
	"cmp"
	"slices"
	"strings"

	"github.com/iamproxy/iamproxy/internal/text"
)

// CheckCommand returns the command line that checks the endpoint with the same settings, for a
// POSIX shell. user and database are those of a login; the settings of the endpoint win, and
// an empty database is left out. It contains no password.
func (e Endpoint) CheckCommand(user, database, caFile string) string {
	var options []string
	e.User = cmp.Or(e.User, user)
	if database = cmp.Or(e.Database, database); database != "" && database != "postgres" {
		options = flags("--database", database)
	}
	return e.Command("check", slices.Concat(options, e.SignFlags(), e.ConnectFlags(caFile))...)
}

// Command returns the command line of a command of iamproxy for the endpoint and its user, for a
// POSIX shell.
func (e Endpoint) Command(command string, options ...string) string {
	words, user := []string{"iamproxy", command, e.argument()}, cmp.Or(e.User, "USER")
	if command != "check" { // of others --user is a list
		user = text.FlagList(user)
	}
	return text.ShellCommand(slices.Concat(words, flags("--user", user), options)...)
}

// argument returns the ENDPOINT of a command line. It has the region only if that is not the
// one in the name.
func (e Endpoint) argument() string {
	address := e.Host
	if e.Port != defaultPort {
		address = e.Address()
	}
	var keys []string
	if e.Region != e.Name.Region {
		keys = append(keys, "region="+e.Region)
	}
	if e.Target != "" {
		keys = append(keys, "target="+e.Target)
	}
	if e.SSLNegotiation != "" {
		keys = append(keys, "sslnegotiation="+e.SSLNegotiation)
	}
	if len(keys) == 0 {
		return address
	}
	return address + "?" + strings.Join(keys, "&")
}

// SignFlags returns the flags of a command line that select the same credentials.
func (e Endpoint) SignFlags() []string {
	return flags(
		"--profile", e.Signer.Profile,
		"--assume-role", e.Signer.AssumeRole,
		"--external-id", e.Signer.ExternalID,
	)
}

// ConnectFlags returns the flags of a command line that connect the same way. They contain no
// password.
func (e Endpoint) ConnectFlags(caFile string) []string {
	return flags(
		"--via", e.ViaFlag(),
		"--ca-file", caFile,
	)
}

// flags returns the pairs of a name and a value whose value is not empty. A value that begins with
// a hyphen is no flag of the command line: a client may choose the name of its user.
func flags(pairs ...string) (given []string) {
	for pair := range slices.Chunk(pairs, 2) {
		switch name, value := pair[0], pair[1]; {
		case strings.HasPrefix(value, "-"):
			given = append(given, name+"="+value)
		case value != "":
			given = append(given, name, value)
		}
	}
	return given
}
