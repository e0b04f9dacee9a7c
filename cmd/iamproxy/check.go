package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/check"
	"github.com/iamproxy/iamproxy/internal/console"
	"github.com/iamproxy/iamproxy/internal/endpoint"
	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
	"github.com/iamproxy/iamproxy/tls"
)

type checkCommand struct {
	Endpoint string `arg:"" form:"endpoint" help:"The database."`
	User     string `form:"user" group:"Identity" help:"Database user to log in as." placeholder:"USER"`
	Database string `form:"name" group:"Connect" help:"Database to log in to. Default: postgres." default:"postgres" placeholder:"NAME"`
	credentialFlags
	connectFlags
	Timeout time.Duration `help:"Timeout of the whole command. Default: 30s." default:"30s" placeholder:"DURATION"`
	JSON    bool          `help:"Print one JSON document instead of text."`

	endpoint endpoint.Endpoint // set by Validate
}

// errCheckFailed is not printed: the output of the check contains the failure.
var errCheckFailed = errors.New("the check has failed")

// Validate parses the endpoint.
func (c *checkCommand) Validate(ctx context.Context) (err error) {
	flags := c.flags()
	flags.User, flags.Database, flags.Via = c.User, c.Database, c.Via
	if c.endpoint, err = endpoint.Parse(ctx, c.Endpoint, flags); err != nil {
		return err
	}
	switch {
	case c.endpoint.User == "":
		return errors.New("--user is required: the database user to log in as")
	case strings.ContainsFunc(c.endpoint.User+c.endpoint.Database, unicode.IsControl):
		return errors.New("--user and --database must not contain control characters")
	case c.Timeout <= 0:
		return fmt.Errorf("--timeout %s: must be positive", c.Timeout)
	}
	return nil
}

// Run checks each step of a connection, and prints the results.
func (c *checkCommand) Run(ctx context.Context, std streams) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	unsetLibpqEnv()
	var identities endpoint.Identities
	identity, err := identities.Load(ctx, c.endpoint)
	if err != nil {
		return usageError{err}
	}
	forward, err := c.endpoint.Forward(ctx, &identities, nil)
	if err != nil {
		return usageError{err}
	}
	defer endpoint.StartAll(forward)()
	checks, err := c.check(identity, forward)
	if err != nil {
		return err
	}
	writer := &check.TextWriter{Out: std.out, Colors: console.SupportsColors(std.out), Width: console.Width(std.out)}
	if !c.JSON {
		checks.Observe = writer.Step
	}
	timed, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	report := checks.Run(timed)
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case c.JSON:
		err = writeJSON(std.out, report)
	default:
		err = writer.Verdict(report)
	}
	if err == nil && !report.OK {
		err = errCheckFailed
	}
	return err
}

// check returns the check of the endpoint.
func (c *checkCommand) check(identity *auth.Identity, forward endpoint.Forward) (*check.Check, error) {
	roots, err := tls.LoadRoots(c.CAFile)
	if err != nil {
		return nil, usagef("--ca-file: %w", err)
	}
	e := c.endpoint
	checks := &check.Check{
		Endpoint: e,
		CAFile:   c.CAFile,
		Identity: identity,
		Dialer:   e.Dialer(forward, roots),
		Tokens:   e.Tokens(identity),
	}
	if session, ok := forward.(*ssm.Forward); ok {
		checks.OpenSession = session.Describe
	}
	return checks, nil
}

func writeJSON(out io.Writer, report check.Report) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(report)
}
