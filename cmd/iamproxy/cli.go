package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"

	"github.com/iamproxy/iamproxy/internal/cli"
	"github.com/iamproxy/iamproxy/internal/endpoint"
	"github.com/iamproxy/iamproxy/internal/server"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// Messages follow these rules: one line on standard error, beginning with "iamproxy: ", lower
// case, no period; it names the word that is wrong and the reason. Output for programs goes to
// standard output.

type commands struct {
	Run        runCommand        `cmd:"" default:"withargs" help:"Serve clients. This is the default command."`
	Exec       execCommand       `cmd:"" tail:"-- COMMAND [ARG...]" help:"Run a command that connects through iamproxy, and exit with its exit code."`
	Token      tokenCommand      `cmd:"" help:"Print a fresh token, and nothing else."`
	Check      checkCommand      `cmd:"" help:"Test every step of a connection. Report which steps fail, and how to fix them."`
	Grant      grantCommand      `cmd:"" help:"Create database users and grant them rds_iam, so that they log in with tokens."`
	Policy     policyCommand     `cmd:"" help:"Print the IAM policy that lets a role log in as database users, and nothing else."`
	Wait       waitCommand       `cmd:"" help:"Wait until the iamproxy on this host is ready. For health checks and startup ordering."`
	Shutdown   shutdownCommand   `cmd:"" help:"Request the iamproxy on this host to drain and exit."`
	Completion completionCommand `cmd:"" anyenv:"" help:"Print the completion script of a shell."`
	Man        manCommand        `cmd:"" anyenv:"" hidden:"" help:"Print the manual page, as roff."`
	Help       helpCommand       `cmd:"" anyenv:"" help:"Print the help of iamproxy or of a command."`
	Version    versionCommand    `cmd:"" help:"Print version, commit and Go version."`

	ShowVersion versionFlag `name:"version" short:"v" aliases:"V" env:"-" help:"Print version, commit and Go version."`
	PlainIO     bool        `hidden:"" help:"Read and write connections through Go's net and crypto/tls alone, for troubleshooting."`
}

// credentialFlags select the credentials that sign tokens, and the region.
type credentialFlags struct {
	Region     string `form:"region" group:"Identity" help:"AWS region of the database. Default: taken from the endpoint's name. Required if that has none, as in a global writer endpoint." placeholder:"REGION"`
	Profile    string `form:"profile" group:"Identity" help:"AWS profile whose credentials sign tokens. Default: the SDK's default chain." placeholder:"NAME"`
	AssumeRole string `form:"role" group:"Identity" help:"Role to assume, whose credentials sign tokens. A comma-separated list of roles is assumed in order, each with the credentials of the one before." placeholder:"ARN"`
	ExternalID string `form:"external-id" group:"Identity" name:"external-id" help:"External ID that the role requires; with several roles, the last one." placeholder:"ID"`
}

// flags returns the values for endpoints that do not set their own.
func (f credentialFlags) flags() endpoint.Endpoint {
	return endpoint.Endpoint{Region: f.Region, Signer: endpoint.Signer{Profile: f.Profile, AssumeRole: f.AssumeRole, ExternalID: f.ExternalID}}
}

// connectFlags determine how the database is reached and verified.
type connectFlags struct {
	Via    string `form:"via" group:"Connect" help:"Address to connect to instead of the endpoint: a port forward, another name of the database, or a SOCKS proxy (socks5://HOST:PORT). ssm://TARGET opens a session of AWS Systems Manager Session Manager on an instance (i-...), a managed node (mi-...), a container (ecs:...) or the node with a tag (tag:KEY=VALUE). exec:COMMAND starts a program, with {port}, {host} and {dbport} replaced in COMMAND. Tokens and certificates are still for the endpoint's name." placeholder:"HOST:PORT"`
	CAFile string `form:"file" group:"Connect" name:"ca-file" help:"PEM file with the roots to trust, instead of the built-in RDS roots and those of the system." placeholder:"FILE"`
}

// streams are the outputs of a command.
type streams struct{ out, err io.Writer }

// validator is a command that checks its command line before it runs. It reads no files.
type validator interface {
	Validate(ctx context.Context) error
}

// usageError is an error of the command line or the configuration: exit code 2. Every error of
// Validate is one. Run returns one if a file, the system, AWS or the database shows that they are
// wrong.
type usageError struct{ error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

func (e usageError) Unwrap() error { return e.error }

// run executes the command line and returns the exit code: 0 done, 1 failed, 2 the command line
// or the configuration is wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := execute(ctx, &commands{}, args, streams{stdout, stderr})
	if err == nil {
		return 0
	}
	var command exitCode
	if errors.As(err, &command) {
		return int(command)
	}
	if !errors.Is(err, errCheckFailed) {
		fmt.Fprintln(stderr, "iamproxy:", text.OneLine(err.Error()))
	}
	if isUsage(err) {
		return 2
	}
	return 1
}

// isUsage reports whether the command line or the configuration is wrong.
func isUsage(err error) bool {
	return errors.As(err, new(usageError)) || errors.As(err, new(server.ConfigError))
}

func execute(ctx context.Context, c *commands, args []string, std streams) error {
	parser, err := newParser(c, std, kong.BindTo(ctx, (*context.Context)(nil)))
	if err != nil {
		return err
	}
	args, c.Exec.words = cutCommand(args)
	command, err := parser.Parse(args)
	switch {
	case errors.Is(err, cli.ErrShown):
		return nil
	case errors.As(err, new(*fs.PathError)): // standard output
		return err
	case err != nil && len(args) > 0 && args[0] == "exec" && c.Exec.words == nil:
		return usagef("%w; COMMAND comes after --", err)
	case err != nil:
		return usageError{err}
	}
	netconn.SetPlainIO(c.PlainIO)
	if v, ok := command.Selected().Target.Addr().Interface().(validator); ok {
		if err := v.Validate(ctx); err != nil {
			return nameVariables(parser, command, usageError{err})
		}
	}
	return nameVariables(parser, command, command.Run())
}

// cutCommand splits the command line of exec at --. The words after it are the command.
func cutCommand(args []string) (own, command []string) {
	if len(args) == 0 || args[0] != "exec" {
		return args, nil
	}
	if i := slices.Index(args, "--"); i > 0 {
		return args[:i], args[i+1:]
	}
	return args, nil
}

// nameVariables returns err. An error of the configuration names variables in place of flags
// where they have the values.
func nameVariables(parser *cli.Parser, command *kong.Context, err error) error {
	if !isUsage(err) {
		return err
	}
	return usagef("%s", parser.NameVariables(command.Selected(), err.Error()))
}

func newParser(c *commands, std streams, more ...kong.Option) (*cli.Parser, error) {
	return cli.New(c, std.out, std.err, append(more, kong.Bind(std))...)
}

// checkName returns an error for a name that PostgreSQL would truncate, and for one that would
// break a line of output.
func checkName(flag, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%s: a name is empty", flag)
	case len(name) > endpoint.MaxName:
		return fmt.Errorf("%s: a name in PostgreSQL has at most %d bytes, and this one has %d", flag, endpoint.MaxName, len(name))
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%s: a name must not have control characters", flag)
	}
	return nil
}

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
