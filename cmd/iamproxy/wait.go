package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// waitEvery spaces the attempts of wait.
	waitEvery = 100 * time.Millisecond
	// askTimeout bounds one of them. It is for iamproxy to ask for credentials.
	askTimeout = 5 * time.Second
)

// Run asks the iamproxy on this host until it is ready or the time is up.
func (c *waitCommand) Run(ctx context.Context) error {
	address, isReady, err := c.question()
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
		err := isReady(ctx)
		if err == nil {
			return nil
		}
		if why == nil || ctx.Err() == nil { // at the end it is only the time that is up
			why = err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("no iamproxy was ready at %s within %s: %w", address, c.Timeout, why)
		}
	}
}

// question is whom to ask, and how. Without an admin server it is the listener, which
// can only tell that it is there.
func (c *waitCommand) question() (address string, isReady func(context.Context) error, err error) {
	address, err = adminAddress(c.Admin)
	if err != nil || address != "" {
		return address, func(ctx context.Context) error { return askReady(ctx, address) }, err
	}
	listening, err := parseListen(c.Listen)
	return c.Listen, func(ctx context.Context) error { return askListener(ctx, listening) }, err
}

// askReady returns what is not ready, and why, in one line.
func askReady(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	status, body, err := askAdmin(ctx, http.MethodGet, address, "/readyz")
	if err != nil || status == http.StatusOK {
		return err
	}
	var reasons []string
	for _, line := range strings.Split(body, "\n") {
		if reason, ok := strings.CutPrefix(line, "not ready  "); ok {
			reasons = append(reasons, reason)
		}
	}
	if len(reasons) == 0 {
		return fmt.Errorf("it says %d", status)
	}
	return errors.New(strings.Join(reasons, "; "))
}

// askListener has the listener decline a GSSENCRequest, which every iamproxy does at
// once, whether it offers TLS or not.
func askListener(ctx context.Context, address listenAddress) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var dialer net.Dialer
	where := address.String()
	if !address.unix {
		where = reachable(where)
	}
	conn, err := dialer.DialContext(ctx, address.network(), where)
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
