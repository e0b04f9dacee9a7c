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

// waitEvery spaces the attempts of wait.
const waitEvery = 100 * time.Millisecond

// Run asks the iamproxy on this host until it answers or the time is up. It
// says nothing of the database or the credentials.
func (c *waitCommand) Run(ctx context.Context) error {
	if err := checkLoopback(c.Listen); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	ticker := time.NewTicker(waitEvery)
	defer ticker.Stop()
	for {
		err := ask(ctx, c.Listen)
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("no iamproxy answered at %s within %s: %w", c.Listen, c.Timeout, err)
		}
	}
}

// ask has the listener answer an SSLRequest, which every iamproxy does at once.
func ask(ctx context.Context, address string) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	request, err := (&pgproto3.SSLRequest{}).Encode(nil)
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
	if answer[0] != 'N' && answer[0] != 'S' {
		return errors.New("what listens there does not speak PostgreSQL's protocol")
	}
	return nil
}
