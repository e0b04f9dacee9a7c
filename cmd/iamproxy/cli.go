package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/iamproxy/iamproxy/internal/endpoint"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// Messages follow these rules: one line on standard error, beginning with "iamproxy: ", lower
// case, no period; it names the word that is wrong and the reason. Output for programs goes to
// standard output.

const description = `PostgreSQL clients connect here without a password; iamproxy logs in to Amazon RDS or Aurora with an IAM token, over verified TLS.

ENDPOINT is HOST[:PORT][?key=value&...], where HOST is the name that AWS gave the database and the keys are listen, user, database, region, profile, assume-role, external-id, via, target, pool and sslnegotiation (postgres, or direct for PostgreSQL 17 and later). Each flag is also an environment variable: --ca-file is IAMPROXY_CA_FILE, and IAMPROXY_ENDPOINTS has the endpoints, separated by commas.

Exit codes: 0 done, or drained after SIGTERM, SIGINT or shutdown; 1 failed; 2 the command line or the configuration is wrong.`

type commands struct {
	Run      runCommand      `cmd:"" default:"withargs" help:"Serve clients. This is the default command."`
	Token    tokenCommand    `cmd:"" help:"Print a fresh token and nothing else, for example PGPASSWORD=$$(iamproxy token ...)."`
	Check    checkCommand    `cmd:"" help:"Test every step of a connection. Report which steps fail, and how to fix them."`
	Grant    grantCommand    `cmd:"" help:"Create database users and grant them rds_iam, so that they log in with tokens. It is safe to run again."`
	Policy   policyCommand   `cmd:"" help:"Print the IAM policy that lets a role log in as database users, and nothing else."`
	Wait     waitCommand     `cmd:"" help:"Wait until the iamproxy on this host is ready, and exit with 0. For health checks and startup ordering."`
	Shutdown shutdownCommand `cmd:"" help:"Request the iamproxy on this host to drain and exit."`
	Version  versionCommand  `cmd:"" help:"Print version, commit and Go version."`

	PlainIO bool `hidden:"" help:"Read and write connections through Go's net and crypto/tls alone, for troubleshooting."`
}

// credentialFlags select the credentials that sign tokens, and the region.
type credentialFlags struct {
	Region     string `help:"AWS region of the database. Default: taken from the endpoint's name." placeholder:"REGION"`
	Profile    string `help:"AWS profile whose credentials sign tokens. Default: the SDK's default chain." placeholder:"NAME"`
	AssumeRole string `help:"Role to assume, whose credentials sign tokens. A comma-separated list of roles is assumed in order, each with the credentials of the one before." placeholder:"ARN"`
	ExternalID string `name:"external-id" help:"External ID that the (last) role requires." placeholder:"ID"`
}

// flags returns the values for endpoints that do not set their own.
func (f credentialFlags) flags() endpoint.Endpoint {
	return endpoint.Endpoint{Region: f.Region, Signer: endpoint.Signer{Profile: f.Profile, AssumeRole: f.AssumeRole, ExternalID: f.ExternalID}}
}

// connectFlags determine how the database is reached and verified.
type connectFlags struct {
	Via    string `help:"Address to connect to instead of the endpoint: a port forward, a name of your own, or a SOCKS proxy (socks5://HOST:PORT). Or a port forward to start: ssm://TARGET with the AWS CLI, or exec:COMMAND with {port}, {host} and {dbport} replaced. Tokens and certificates are still for the endpoint's name." placeholder:"HOST:PORT"`
	CAFile string `name:"ca-file" help:"PEM file with the roots to trust, instead of the built-in RDS roots and those of the system." placeholder:"FILE"`
}

// streams are the outputs of a command.
type streams struct{ out, err io.Writer }

// validator is a command that checks its command line before it runs. It reads no files.
type validator interface {
	Validate(ctx context.Context) error
}

// usageError is an error of the command line or the configuration: exit code 2. Every error of
// Validate is one. Run returns one if a file, the system or AWS shows that they are wrong.
type usageError struct{ error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

func (e usageError) Unwrap() error { return e.error }

// run executes the command line and returns the exit code: 0 done, 1 failed, 2 the command line
// or the configuration is wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := execute(ctx, args, streams{stdout, stderr})
	if err == nil {
		return 0
	}
	if !errors.Is(err, errCheckFailed) {
		fmt.Fprintln(stderr, "iamproxy:", text.OneLine(err.Error()))
	}
	var usage usageError
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}

func execute(ctx context.Context, args []string, std streams) (err error) {
	var c commands
	parser, err := newParser(&c, std, kong.BindTo(ctx, (*context.Context)(nil)))
	if err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(helpShown); !ok {
				panic(r)
			}
		}
	}()
	unknown := checkEnvironment(parser)
	command, err := parser.Parse(args)
	if err != nil {
		return parseError(err)
	}
	if unknown != "" {
		return usagef("unknown environment variable %s; `iamproxy --help` lists the flags that have one", unknown)
	}
	netconn.SetPlainIO(c.PlainIO)
	if v, ok := command.Selected().Target.Addr().Interface().(validator); ok {
		if err := v.Validate(ctx); err != nil {
			return usageError{err}
		}
	}
	return command.Run()
}

// parseError adds a hint to an error of kong about the order of arguments. Kong has no type or
// code for it (its context.go).
func parseError(err error) error {
	var parsing *kong.ParseError
	if errors.As(err, &parsing) && strings.HasPrefix(parsing.Context.Command(), "run") && strings.HasPrefix(err.Error(), "unexpected argument ") {
		return usagef("%w; endpoints stand in a row, before or after the flags", err)
	}
	return usageError{err}
}

func newParser(c *commands, std streams, more ...kong.Option) (*kong.Kong, error) {
	return kong.New(c, append(more,
		kong.Name("iamproxy"),
		kong.Description(description),
		kong.DefaultEnvars("IAMPROXY"),
		kong.Writers(std.out, std.err),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
		kong.Help(printHelp),
		kong.Exit(func(int) { panic(helpShown{}) }),
		kong.Bind(std),
	)...)
}

// printHelp prints the help of the program and of its default command, whose flags can be given
// without the command.
func printHelp(options kong.HelpOptions, shown *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, shown); err != nil || shown.Selected() != nil {
		return err
	}
	run, err := kong.Trace(shown.Kong, []string{"run"})
	if err != nil {
		return err
	}
	fmt.Fprintln(shown.Stdout)
	return kong.DefaultHelpPrinter(options, run)
}

// helpShown is the panic that stops kong after --help. Kong has no other way.
type helpShown struct{}

// checkEnvironment unsets empty IAMPROXY_ variables, which templates of deployments leave behind.
// It returns the name of an unknown variable: a misspelt name must not be ignored.
func checkEnvironment(parser *kong.Kong) (unknown string) {
	known := map[string]bool{}
	_ = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		switch node := node.(type) {
		case *kong.Flag:
			for _, name := range node.Envs {
				known[name] = true
			}
		case *kong.Value:
			for _, name := range node.Tag.Envs {
				known[name] = true
			}
		}
		return next(nil)
	})
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		switch {
		case !strings.HasPrefix(name, "IAMPROXY_"):
		case known[name] && value == "":
			os.Unsetenv(name)
		case !known[name] && !kubernetesLink.MatchString(variable):
			unknown = name
		}
	}
	return unknown
}

// kubernetesLink matches the variables that Kubernetes sets in each pod for services called
// iamproxy or iamproxy-*.
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
var kubernetesLink = regexp.MustCompile(`^IAMPROXY_([A-Z0-9_]+_)?(` +
	`SERVICE_HOST=[0-9a-f.:]+|` +
	`SERVICE_PORT(_[A-Z0-9_]+)?=[0-9]+|` +
	`PORT=(tcp|udp|sctp)://.*|` +
	`PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=.*)$`)

// checkName returns an error for a name that PostgreSQL would truncate, and for one that would
// break a line of output.
func checkName(flag, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%s: a name in it is empty", flag)
	case len(name) > maxName:
		return fmt.Errorf("%s %s: PostgreSQL's names have at most %d bytes", flag, name, maxName)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%s %q: a name in it has control characters", flag, name)
	}
	return nil
}

// maxName is the maximum length of a name in PostgreSQL, in bytes.
const maxName = 63

// trimNames removes the spaces around names, as in "app, other".
func trimNames(names []string) {
	for i, name := range names {
		names[i] = strings.TrimSpace(name)
	}
}

// unsetLibpqEnv unsets the variables of libpq, and returns the password among them. pgx would
// use them in addition to the command line, and a port forward would inherit the password.
func unsetLibpqEnv() (password string) {
	password = os.Getenv("PGPASSWORD")
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "PG") {
			os.Unsetenv(name)
		}
	}
	return password
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
