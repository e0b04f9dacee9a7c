package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/iamproxy/iamproxy/internal/admin"
	"github.com/iamproxy/iamproxy/internal/console"
	"github.com/iamproxy/iamproxy/internal/listen"
)

type shutdownCommand struct {
	Admin string `form:"address" help:"Value of --admin of the running iamproxy. Default: 127.0.0.1:9090." placeholder:"HOST:PORT"`

	client admin.Client // set by Validate
}

// shutdownTimeout bounds the wait for the response, which comes at once.
const shutdownTimeout = 10 * time.Second

// Validate parses the address.
func (c *shutdownCommand) Validate(context.Context) (err error) {
	if c.client.Address, err = admin.ParseAddress(c.Admin); err != nil {
		return err
	}
	if c.client.Address == "" {
		return errors.New("--admin off: without an admin server, send the process a SIGTERM")
	}
	return nil
}

// Run requests the shutdown of the iamproxy on this host. It does not wait for it.
func (c *shutdownCommand) Run(ctx context.Context, std streams) error {
	ctx, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	answer, err := c.client.Shutdown(ctx)
	switch {
	case errors.Is(err, listen.ErrNoListener):
		return noListener(c.client.Address, "--admin")
	case err != nil:
		return fmt.Errorf("could not shut down the iamproxy at %s: %w", c.client.Address, err)
	case console.IsTerminal(std.err):
		fmt.Fprintln(std.err, answer)
	}
	return nil
}
