package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/internal/admin"
	"github.com/iamproxy/iamproxy/internal/listen"
)

type waitCommand struct {
	Admin   string        `help:"Value of --admin of the running iamproxy. Default: 127.0.0.1:9090." placeholder:"HOST:PORT"`
	Listen  string        `help:"Value of --listen of the running iamproxy, used if its --admin is off. Default: 127.0.0.1:5432." default:"127.0.0.1:5432" placeholder:"HOST:PORT"`
	Timeout time.Duration `help:"Timeout." default:"30s"`

	check readinessCheck // set by Validate
}

// readinessCheck tests whether iamproxy is ready.
type readinessCheck struct {
	address string // for messages
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
	c.check = readinessCheck{address, admin.Client{Address: address}.Ready}
	if address == "" { // without an admin server, only the listener can be checked
		addr, err := listen.ParseAddr(c.Listen)
		if err != nil {
			return err
		}
		c.check = readinessCheck{c.Listen, func(ctx context.Context) error { return checkListener(ctx, addr) }}
	}
	if c.Timeout <= 0 {
		return fmt.Errorf("--timeout %s: must be more than 0", c.Timeout)
	}
	return nil
}

// Run waits until iamproxy is ready.
func (c *waitCommand) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
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
		if lastErr == nil || ctx.Err() == nil { // the error of the timeout is less informative
			lastErr = err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("no iamproxy was ready at %s within %s: %w", c.check.address, c.Timeout, lastErr)
		}
	}
}

// checkListener sends a GSSENCRequest, which iamproxy declines at once, with or without TLS.
func checkListener(ctx context.Context, addr listen.Addr) error {
	address := addr.String()
	if !addr.Unix {
		address = listen.DialAddr(address)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, addr.Network(), address)
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
	if _, err := conn.Write(request); err != nil {
		return err
	}
	var response [1]byte
	if _, err := io.ReadFull(conn, response[:]); err != nil {
		return err
	}
	if response[0] != 'N' {
		return errors.New("what listens there is not iamproxy")
	}
	return nil
}
