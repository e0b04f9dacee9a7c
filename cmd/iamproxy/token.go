package main

import (
	"context"
	"fmt"

	"github.com/iamproxy/iamproxy/auth"
)

// Run prints a token. It is the only thing on standard output, so that a shell
// can take it: PGPASSWORD=$(iamproxy token ENDPOINT --user USER).
func (c *tokenCommand) Run(ctx context.Context, std streams) error {
	e, err := parseEndpoint(c.Endpoint)
	if err != nil {
		return err
	}
	if e, err = e.resolve(endpoint{user: c.User, region: c.Region}); err != nil {
		return err
	}
	if e.user == "" {
		return usagef("a token is for one database user: give --user")
	}
	credentials, err := loadCredentials(ctx, c.Profile, e.region)
	if err != nil {
		return err
	}
	tokens := auth.Tokens{Endpoint: e.address(), Region: e.region, Credentials: credentials}
	token, err := tokens.Token(ctx, e.user)
	if err != nil {
		return withAdvice(err)
	}
	_, err = fmt.Fprintln(std.out, token)
	return err
}

// withAdvice adds to an error what there is to do about it.
func withAdvice(err error) error {
	if adviser, ok := err.(interface{ Advice() string }); ok && adviser.Advice() != "" {
		return fmt.Errorf("%w; %s", err, adviser.Advice())
	}
	return err
}
