package main

import (
	"context"
	"fmt"
	"time"

	"github.com/iamproxy/iamproxy/internal/text"
)

// ofOthers are flags that a token has no use for: it is asked for in the words of a command
// line that connects.
type ofOthers struct {
	Database string `hidden:""`
	Via      string `hidden:""`
	CAFile   string `name:"ca-file" hidden:""`
}

// tokenTimeout bounds the wait for credentials from a source that is at fault.
const tokenTimeout = 30 * time.Second

// Run prints a token. It is the only thing on standard output, so that a shell
// can take it: PGPASSWORD=$(iamproxy token ENDPOINT --user USER).
func (c *tokenCommand) Run(ctx context.Context, std streams) error {
	e, err := parseEndpoint(c.Endpoint)
	if err != nil {
		return err
	}
	flags := c.flags()
	flags.user = c.User
	if e, err = e.resolve(ctx, flags); err != nil {
		return err
	}
	if e.user == "" {
		return usagef("a token is for one database user: give --user")
	}
	identity, err := new(identities).of(ctx, e)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	token, err := e.tokens(identity).Token(ctx, e.user)
	if err != nil {
		return text.WithAdvice(err)
	}
	_, err = fmt.Fprintln(std.out, token)
	return err
}
