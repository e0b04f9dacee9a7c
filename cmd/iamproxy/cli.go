package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// Texts for people keep to these rules: one line on standard error, "iamproxy: "
// before it, lower case, no full stop; it names the word that is wrong and says
// why. What a program may want to read goes to standard output.

const description = `PostgreSQL clients connect here without a password; iamproxy logs in to Amazon RDS or Aurora with an IAM token, over verified TLS.

ENDPOINT is HOST[:PORT][?key=value&...], where HOST is the name that AWS gave the database and the keys are listen, user, database, region, profile, assume-role, external-id, via, target, pool and sslnegotiation (postgres, or direct for PostgreSQL 17 and later). Each flag is also an environment variable: --ca-file is IAMPROXY_CA_FILE, and IAMPROXY_ENDPOINTS has the endpoints, separated by commas.

Exit codes: 0 done, or drained after SIGTERM, SIGINT or shutdown; 1 failed; 2 the command line or the configuration is wrong.`

type commands struct {
	Run      runCommand      `cmd:"" default:"withargs" help:"Serve clients: the default command."`
	Token    tokenCommand    `cmd:"" help:"Print a fresh token and nothing else, as in PGPASSWORD=$$(iamproxy token ...)."`
	Check    checkCommand    `cmd:"" help:"Walk every step of a connection, and say which holds, which does not, and what to do about it."`
	Grant    grantCommand    `cmd:"" help:"Create database users and grant them rds_iam, so that they log in with tokens. Safe to run again."`
	Policy   policyCommand   `cmd:"" help:"Print the IAM policy that lets a role log in as database users, and nothing else."`
	Wait     waitCommand     `cmd:"" help:"End with 0 as soon as the iamproxy on this host is ready: a health check, a start-up gate."`
	Shutdown shutdownCommand `cmd:"" help:"Ask the iamproxy on this host to drain and end."`
	Version  versionCommand  `cmd:"" help:"Print version, commit and Go version."`

	PlainIO bool `hidden:"" help:"Read and write connections through Go's net and crypto/tls alone, for troubleshooting."`
}

// signing is whose credentials sign, and for where.
type signing struct {
	Region     string `help:"AWS region of the database. Default: read from the endpoint's name." placeholder:"REGION"`
	Profile    string `help:"AWS profile whose credentials sign. Default: the SDK's own chain." placeholder:"NAME"`
	AssumeRole string `help:"Role that these credentials assume, and that signs. Several, with commas between them, are assumed one by the other." placeholder:"ARN"`
	ExternalID string `name:"external-id" help:"External id that the (last) role asks for." placeholder:"ID"`
}

// flags are what they say of every endpoint.
func (s signing) flags() endpoint {
	return endpoint{region: s.Region, signer: signer{profile: s.Profile, assumeRole: s.AssumeRole, externalID: s.ExternalID}}
}

// reaching is how the database is reached, and known.
type reaching struct {
	Via    string `help:"Address to dial instead of the endpoint: a port forward, a name of your own, or a proxy as socks5://HOST:PORT. Or a port forward to start: ssm://TARGET by the AWS CLI, or exec:COMMAND with {port}, {host} and {dbport} filled in. The endpoint's name is still what is signed and verified." placeholder:"HOST:PORT"`
	CAFile string `name:"ca-file" help:"PEM file of the roots to trust instead of the built-in RDS roots and the system's." placeholder:"FILE"`
}

type runCommand struct {
	Endpoints []string `arg:"" name:"endpoint" env:"IAMPROXY_ENDPOINTS" optional:"" help:"The databases; the first is served at --listen, each further one at the next port."`

	User string `help:"Database user to log in as. Default: as the client says." placeholder:"USER"`
	signing
	reaching
	Database       string        `help:"Database to log in to. Default: as the client says." placeholder:"NAME"`
	Listen         string        `help:"Address to listen on, or unix:DIR for the socket DIR/.s.PGSQL.5432. Default: 127.0.0.1:5432." default:"127.0.0.1:5432" placeholder:"HOST:PORT"`
	SocketMode     string        `help:"Who may connect to a unix socket, in octal. Default: 0660." default:"0660" placeholder:"MODE"`
	ListenTLS      string        `name:"listen-tls" help:"TLS for clients that want it: off, self-signed, or CERT.pem,KEY.pem, which are read again when they change. Default: off." default:"off" placeholder:"HOW"`
	Target         string        `help:"writer: only an instance that takes writes, which after a failover is looked for until --connect-timeout. any: whichever answers. Default: writer for cluster endpoints, else any." placeholder:"WHICH"`
	ConnectTimeout time.Duration `help:"Time for everything between a client's startup packet and its session." default:"30s"`
	ConnectRate    float64       `help:"Most new logins a second and endpoint; more wait their turn. AWS takes 200. 0 is no limit." default:"150" placeholder:"N"`
	Pool           int           `help:"Idle connections to keep, of each endpoint, for the next client with the same user, database and startup parameters; DISCARD ALL stands between two clients. 0 keeps none." default:"0" placeholder:"N"`
	AllowFrom      []string      `help:"Addresses and networks (CIDR) from which clients may connect. Needed to listen beyond loopback: who connects needs no password." sep:"," placeholder:"CIDR"`
	AllowUser      []string      `help:"Users of this host, by name or number, whose processes may connect. Default: all that reach the listener." sep:"," placeholder:"USER"`
	MaxSessions    int           `help:"Most clients at once, of all endpoints together. Default: as many as there are file descriptors for." default:"0" placeholder:"N"`
	DrainMin       time.Duration `help:"After a signal to end: how long new clients are still let in." default:"0s"`
	DrainMax       time.Duration `help:"After a signal to end: when sessions that are still open are ended." default:"25s"`
	Admin          string        `help:"Address of the HTTP server for /livez, /startupz, /readyz, /metrics, the status page at / and POST /shutdown, or off. Default: 127.0.0.1:9090." placeholder:"HOST:PORT"`
	Pprof          bool          `help:"Profiles of the Go runtime at /debug/pprof/ of --admin, over loopback."`
	LogLevel       string        `help:"debug, info, warn or error. Default: info." enum:"debug,info,warn,error" default:"info" placeholder:"LEVEL"`
	LogFormat      string        `help:"json or console. Default: console on a terminal, else json." enum:",json,console" default:"" placeholder:"FORMAT"`
}

type tokenCommand struct {
	Endpoint string `arg:"" help:"The database."`
	User     string `help:"Database user that the token is for." placeholder:"USER"`
	signing
	ofOthers
}

type waitCommand struct {
	Admin   string        `help:"Where iamproxy's HTTP server is, in the words of run. Default: 127.0.0.1:9090." placeholder:"HOST:PORT"`
	Listen  string        `help:"Where iamproxy listens, if that is off. Default: 127.0.0.1:5432." default:"127.0.0.1:5432" placeholder:"HOST:PORT"`
	Timeout time.Duration `help:"How long to wait." default:"30s"`
}

type shutdownCommand struct {
	Admin string `help:"Where iamproxy's HTTP server is, in the words of run. Default: 127.0.0.1:9090." placeholder:"HOST:PORT"`
}

// streams are where a command writes.
type streams struct{ out, err io.Writer }

// usageError is one of the command line or the configuration: exit code 2.
type usageError struct{ error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

func (e usageError) Unwrap() error { return e.error }

// run is the program. It returns the exit code: 0 done, 1 failed, 2 the command
// line or the configuration is wrong.
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
	unknown := tidyEnvironment(parser)
	command, err := parser.Parse(args)
	if err != nil {
		return parseError(err)
	}
	if unknown != "" {
		return usagef("unknown environment variable %s; `iamproxy --help` lists the flags that have one", unknown)
	}
	netconn.SetPlainIO(c.PlainIO)
	return command.Run()
}

// parseError adds what kong cannot know.
func parseError(err error) error {
	var parsing *kong.ParseError
	if errors.As(err, &parsing) && strings.HasPrefix(parsing.Context.Command(), "run") && strings.HasPrefix(err.Error(), "unexpected argument ") {
		return usagef("%w; endpoints stand in a row, before or behind the flags", err)
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

// printHelp shows with the program's help that of its default command, whose
// flags are the program's.
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

// helpShown unwinds kong, which has no other way to stop behind --help.
type helpShown struct{}

// tidyEnvironment unsets our variables that are empty, as templates of
// deployments leave them, and returns one that would be ignored: a misspelt
// name must not leave a default in force.
func tidyEnvironment(parser *kong.Kong) (unknown string) {
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

// kubernetesLink is a variable that Kubernetes sets in every pod beside a
// service called iamproxy or iamproxy-something.
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
var kubernetesLink = regexp.MustCompile(`^IAMPROXY_([A-Z0-9_]+_)?(` +
	`SERVICE_HOST=[0-9a-f.:]+|` +
	`SERVICE_PORT(_[A-Z0-9_]+)?=[0-9]+|` +
	`PORT=(tcp|udp|sctp)://.*|` +
	`PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=.*)$`)

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
