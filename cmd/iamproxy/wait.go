package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/internal/admin"
	"github.com/iamproxy/iamproxy/internal/console"
	"github.com/iamproxy/iamproxy/internal/listen"
	"github.com/iamproxy/iamproxy/internal/text"
)

type waitCommand struct {
	Admin   string        `form:"address" help:"Value of --admin of the running iamproxy. Default: 127.0.0.1:9090." placeholder:"HOST:PORT"`
	Listen  string        `form:"listen" help:"Value of --listen of the running iamproxy, used if its --admin is off. Default: localhost:5432." default:"localhost:5432" placeholder:"HOST:PORT"`
	Timeout time.Duration `help:"Timeout. Default: 30s." default:"30s" placeholder:"DURATION"`

	check readinessCheck // set by Validate
}

// readinessCheck tests whether iamproxy is ready.
type readinessCheck struct {
	address string // for messages
	flag    string // whose value the address is
	ready   func(context.Context) error
}

const (
	// waitInterval is the pause between two checks.
	waitInterval = 100 * time.Millisecond
	// checkTimeout bounds one check, in which iamproxy may have to fetch credentials.
	checkTimeout = 5 * time.Second
)

// Validate parses the addresses.
func (c *waitCommand) Validate(context.Context) error {
	address, err := admin.ParseAddress(c.Admin)
	if err != nil {
		return err
	}
	c.check = readinessCheck{address, "--admin", admin.Client{Address: address}.Ready}
	if address == "" { // without an admin server, only the listener can be checked
		addr, err := listen.ParseAddr(c.Listen)
		if err != nil {
			return err
		}
		c.check = readinessCheck{c.Listen, "--listen", func(ctx context.Context) error { return checkListener(ctx, addr) }}
	}
	if c.Timeout <= 0 {
		return fmt.Errorf("--timeout %s: must be positive", c.Timeout)
	}
	return nil
}

// Run waits until iamproxy is ready. On a terminal it prints the reasons why it is not.
func (c *waitCommand) Run(ctx context.Context, std streams) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	ticker := time.NewTicker(waitInterval)
	defer ticker.Stop()
	var lastErr error
	for {
		checkCtx, cancel := context.WithTimeout(ctx, checkTimeout)
		err := c.check.ready(checkCtx)
		cancel()
		if err == nil {
			return nil
		}
		if lastErr == nil || time.Now().Before(deadline) { // the error of the timeout is less informative
			if console.IsTerminal(std.err) && (lastErr == nil || lastErr.Error() != err.Error()) {
				fmt.Fprintf(std.err, "waiting for iamproxy at %s (%s)\n", c.check.address, text.OneLine(err.Error()))
			}
			lastErr = err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			if errors.Is(lastErr, listen.ErrNoListener) {
				return noListener(c.check.address, c.check.flag)
			}
			return fmt.Errorf("iamproxy at %s is not ready: %w", c.check.address, lastErr)
		}
	}
}

// noListener returns the error for an address, the value of a flag, at which no process listens.
func noListener(address, flag string) error {
	return fmt.Errorf("nothing is listening on %s: iamproxy is not running, or has another %s", address, flag)
}

// checkListener sends a GSSENCRequest, which iamproxy declines at once, with or without TLS.
func checkListener(ctx context.Context, addr listen.Addr) error {
	conn, err := listen.Dial(ctx, addr.Network(), addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	request, err := (&pgproto3.GSSEncRequest{}).Encode(nil)
	if err != nil {
		return err
	}
	var response [1]byte
	if _, err = conn.Write(request); err == nil {
		_, err = io.ReadFull(conn, response[:])
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return listen.ErrNoAnswer
	case err != nil:
		return errors.New("the connection was closed")
	case response[0] != 'N':
		return errors.New("the program that listens there is not iamproxy")
	}
	if terminate, err := (&pgproto3.Terminate{}).Encode(nil); err == nil {
		_, _ = conn.Write(terminate) // otherwise it counts as a client that requires GSSAPI
	}
	return nil
}
