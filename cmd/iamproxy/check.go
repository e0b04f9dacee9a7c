package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/iamproxy/iamproxy/internal/check"
	"github.com/iamproxy/iamproxy/tls"
)

type checkCommand struct {
	Endpoint string `arg:"" help:"The database."`
	User     string `help:"Database user to log in as." placeholder:"USER"`
	Database string `help:"Database to log in to." default:"postgres" placeholder:"NAME"`
	signing
	reaching
	Timeout time.Duration `help:"Time for all of it." default:"30s"`
	JSON    bool          `help:"Print one JSON document instead of lines for people."`
}

// errCheckFailed is said already, by what the check has printed.
var errCheckFailed = errors.New("the check has failed")

// Run walks every step of a connection, and says what to do about what fails.
func (c *checkCommand) Run(ctx context.Context, std streams) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	e, err := c.endpoint(ctx)
	if err != nil {
		return err
	}
	forgetLibpq()
	ways := &forwards{}
	defer ways.stop()
	dial, err := ways.to(e)
	if err != nil {
		return err
	}
	walk, err := c.check(ctx, e, dial)
	if err != nil {
		return err
	}
	screen := &checkScreen{out: std.out, colours: wantsColours(std.out)}
	if !c.JSON {
		walk.Observe = screen.step
	}
	timed, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	report := walk.Run(timed)
	switch {
	case ctx.Err() != nil:
		return errors.New("told to end before it was done")
	case c.JSON:
		err = writeReport(std, report)
	default:
		err = screen.verdict(report)
	}
	if err == nil && !report.OK {
		err = errCheckFailed
	}
	return err
}

// endpoint checks all that can be wrong without a connection.
func (c *checkCommand) endpoint(ctx context.Context) (endpoint, error) {
	e, err := parseEndpoint(c.Endpoint)
	if err != nil {
		return endpoint{}, err
	}
	flags := c.flags()
	flags.user, flags.database, flags.via = c.User, c.Database, c.Via
	if e, err = e.resolve(ctx, flags); err != nil {
		return endpoint{}, err
	}
	switch {
	case e.user == "":
		return endpoint{}, usagef("a login is as one database user: give --user")
	case strings.ContainsFunc(e.user+e.database, unicode.IsControl):
		return endpoint{}, usagef("--user or --database: there are control characters in it")
	case c.Timeout <= 0:
		return endpoint{}, usagef("--timeout %s: must be more than 0", c.Timeout)
	}
	return e, nil
}

// check wires what would serve the endpoint.
func (c *checkCommand) check(ctx context.Context, e endpoint, dial dialer) (*check.Check, error) {
	roots, err := tls.Roots(c.CAFile)
	if err != nil {
		return nil, usagef("--ca-file: %w", err)
	}
	identity, err := new(identities).of(ctx, e)
	if err != nil {
		return nil, err
	}
	server := e.server(dial, roots)
	server.Tokens = e.tokens(identity)
	return &check.Check{
		Host:     e.host,
		Port:     e.port,
		Name:     e.name,
		Region:   e.region,
		User:     e.user,
		Database: e.database,
		Target:   e.target,
		Writer:   e.wantsWriter(),
		Identity: identity,
		Proxy:    server,
		Options:  e.options(c.CAFile),
	}, nil
}

// options are the flags that a command needs for the same endpoint. The password of a
// proxy is left for whoever knows it, and so is a command, which may have one in it.
func (e endpoint) options(caFile string) (o check.Options) {
	o.Profile = e.signer.profile
	for _, option := range []struct {
		to          *[]string
		flag, value string
	}{
		{&o.Sign, "--profile", e.signer.profile},
		{&o.Sign, "--assume-role", e.signer.assumeRole},
		{&o.Sign, "--external-id", e.signer.externalID},
		{&o.Reach, "--via", e.viaFlag()},
		{&o.Reach, "--ca-file", caFile},
	} {
		if option.value != "" {
			*option.to = append(*option.to, option.flag, option.value)
		}
	}
	return o
}

// forgetLibpq unsets libpq's variables, and returns the password that was among them. pgx
// would heed them beside the command line, and a port forward would inherit the password.
func forgetLibpq() (password string) {
	password = os.Getenv("PGPASSWORD")
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "PG") {
			os.Unsetenv(name)
		}
	}
	return password
}

func writeReport(std streams, report check.Report) error {
	encoder := json.NewEncoder(std.out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(report)
}
