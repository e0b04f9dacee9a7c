//go:build linux

package main

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net"

	"github.com/jackc/pgx/v5"
)

// Clients that cause the fault.

const (
	silentClients = 2000
	frozenClients = 5
	frozenRows    = 60_000 // of 1.6 KB: more than all buffers between server and client
)

// crowd holds the clients of a fault.
type crowd struct {
	silent []net.Conn
	thaw   chan struct{} // closed when frozen clients continue to read
	frozen chan error    // the result of each
}

// sendSilent opens connections that send nothing.
func sendSilent(ctx context.Context, p *place) error {
	for range silentClients {
		conn, err := p.link.Dial(ctx, "tcp", listenAddress)
		if err != nil {
			return err
		}
		p.crowd.silent = append(p.crowd.silent, conn)
	}
	return nil
}

func callBackSilent(_ context.Context, p *place) error {
	for _, conn := range p.crowd.silent {
		conn.Close()
	}
	p.crowd.silent = nil
	return nil
}

// freezeClients makes clients request much and read none of it.
func freezeClients(ctx context.Context, p *place) error {
	p.crowd.thaw, p.crowd.frozen = make(chan struct{}), make(chan error, frozenClients)
	begun := make(chan struct{}, frozenClients)
	for range frozenClients {
		go func() { p.crowd.frozen <- p.readLater(ctx, p.crowd.thaw, begun) }()
	}
	for range frozenClients {
		select {
		case <-begun:
		case err := <-p.crowd.frozen:
			return err
		}
	}
	return nil
}

// thawClients makes them continue to read. It returns an error unless they receive all that
// the server has sent.
func thawClients(_ context.Context, p *place) error {
	close(p.crowd.thaw)
	var failed []error
	for range frozenClients {
		failed = append(failed, <-p.crowd.frozen)
	}
	return errors.Join(failed...)
}

func (p *place) readLater(ctx context.Context, thaw <-chan struct{}, begun chan<- struct{}) error {
	c := &client{place: p}
	return c.with(ctx, func(conn *pgx.Conn) error {
		w := &lateReader{sum: md5.New(), thaw: thaw, begun: begun}
		if _, err := conn.PgConn().CopyTo(ctx, w, bulkOut(frozenRows)); err != nil {
			return fmt.Errorf("a frozen client: %w", err)
		}
		if hex.EncodeToString(w.sum.Sum(nil)) != bulkOutSum(frozenRows) {
			return wrongData("a frozen client got something else than the server has sent")
		}
		return nil
	})
}

// lateReader blocks its first read until it is released.
type lateReader struct {
	sum   hash.Hash
	thaw  <-chan struct{}
	begun chan<- struct{} // nil: it has been closed
}

func (r *lateReader) Write(b []byte) (int, error) {
	if r.begun != nil {
		r.begun <- struct{}{}
		r.begun = nil
		<-r.thaw
	}
	return r.sum.Write(b)
}
