package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/iamproxy/iamproxy/internal/endpoint"
	"github.com/iamproxy/iamproxy/internal/text"
)

type tokenCommand struct {
	Endpoint string `arg:"" form:"endpoint" help:"The database."`
	User     string `form:"user" group:"Identity" help:"Database user that the token is for." placeholder:"USER"`
	credentialFlags
	ignoredFlags

	endpoint endpoint.Endpoint // set by Validate
}

// ignoredFlags are accepted without effect: the command line of another command can be reused.
type ignoredFlags struct {
	Database string `form:"name" hidden:""`
	Via      string `form:"via" hidden:""`
	CAFile   string `form:"file" name:"ca-file" hidden:""`
}

// tokenTimeout bounds the wait for credentials from a source that fails.
const tokenTimeout = 30 * time.Second

// Validate parses the endpoint.
func (c *tokenCommand) Validate(ctx context.Context) (err error) {
	flags := c.flags()
	flags.User = c.User
	if c.endpoint, err = endpoint.Parse(ctx, c.Endpoint, flags); err != nil {
		return err
	}
	if c.endpoint.User == "" {
		return errors.New("--user is required: the database user to log in as")
	}
	return nil
}

// Run prints a token. Standard output contains nothing else, for use in a shell:
// PGPASSWORD=$(iamproxy token ENDPOINT --user USER).
func (c *tokenCommand) Run(ctx context.Context, std streams) error {
	identity, err := new(endpoint.Identities).Load(ctx, c.endpoint)
	if err != nil {
		return usageError{err}
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM) // main ends a credential_process
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, max(tokenTimeout, identity.FetchTimeout()))
	defer cancel()
	token, err := c.endpoint.Tokens(identity).Token(ctx, c.endpoint.User)
	if err != nil {
		return text.WithAdvice(err)
	}
	_, err = fmt.Fprintln(std.out, token)
	return err
}
