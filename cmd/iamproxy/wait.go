package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// waitEvery spaces the attempts of wait.
	waitEvery = 100 * time.Millisecond
	// askTimeout bounds one of them.
	askTimeout = time.Second
)

// Run asks the iamproxy on this host until it answers or the time is up. It
// says nothing of the database or the credentials.
func (c *waitCommand) Run(ctx context.Context) error {
	address, err := parseListen(c.Listen)
	if err != nil {
		return err
	}
	if c.Timeout <= 0 {
		return usagef("--timeout %s: must be more than 0", c.Timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	ticker := time.NewTicker(waitEvery)
	defer ticker.Stop()
	var why error
	for {
		err := ask(ctx, address)
		if err == nil {
			return nil
		}
		if why == nil || ctx.Err() == nil { // at the end it is only the time that is up
			why = err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("no iamproxy answered at %s within %s: %w", c.Listen, c.Timeout, why)
		}
	}
}

// ask has the listener decline a GSSENCRequest, which every iamproxy does at once,
// whether it offers TLS or not.
func ask(ctx context.Context, address listenAddress) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, address.network(), address.String())
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
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return err
	}
	if answer[0] != 'N' {
		return errors.New("what listens there is not iamproxy")
	}
	return nil
}
