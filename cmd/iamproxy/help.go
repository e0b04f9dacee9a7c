package main

import (
	"github.com/iamproxy/iamproxy/internal/cli"
)

// program describes iamproxy for its help and manual page. Commands and flags are in their structs.
var program = cli.Program{
	Name:    "iamproxy",
	Summary: "log in to Amazon RDS and Aurora for PostgreSQL with IAM tokens",
	Usage:   []string{"iamproxy ENDPOINT... [flags]", "iamproxy COMMAND [arguments] [flags]"},
	About: `PostgreSQL clients connect here without a password. iamproxy logs in to Amazon RDS or Aurora with an IAM token, over verified TLS.

ENDPOINT is HOST[:PORT][?key=value&...]. HOST is the name that AWS gave the database. The keys are listen, user, database, region, profile, assume-role, external-id, via, target, pool and sslnegotiation (postgres, or direct for PostgreSQL 17 and later). The first endpoint is served at --listen, each further one at the next port.`,
	Examples: `iamproxy mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com
psql "host=localhost user=app dbname=mydb"

# from a laptop, through Session Manager
iamproxy mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com \
    --profile dev --via ssm://i-0123456789abcdef0

# find out why a login fails
iamproxy check mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com --user app`,
	Groups:    []string{"Connect", "Identity", "Administrator", "Network", "Limits", "Shutdown", "Observability"},
	Variables: "Each flag is also an environment variable: --ca-file is IAMPROXY_CA_FILE. IAMPROXY_ENDPOINTS has the endpoints, separated by commas. A flag takes precedence over its variable.",
	ExitCodes: "0 done, or drained after SIGTERM, SIGINT or shutdown; 1 failed; 2 the command line or the configuration is wrong.",
	URL:       "https://github.com/iamproxy/iamproxy",
}

// versionFlag is --version.
type versionFlag bool

// IgnoreDefault makes kong not choose the default command.
func (versionFlag) IgnoreDefault() {}

// BeforeReset prints the version, before the command line is checked.
func (versionFlag) BeforeReset(parser *cli.Parser, std streams) error {
	if err := (versionCommand{}).Run(std); err != nil {
		return err
	}
	parser.Exit(0)
	return nil
}

type helpCommand struct {
	Command string `arg:"" optional:"" form:"command" help:"The command."`
}

// Help returns an example.
func (helpCommand) Help() string { return "iamproxy help check" }

// Run prints help on standard output.
func (c *helpCommand) Run(parser *cli.Parser) error {
	command, err := parser.Find(c.Command)
	if err != nil {
		return usageError{err}
	}
	return parser.PrintHelp(command)
}
