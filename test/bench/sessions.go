//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

// sessions are open and idle.
type sessions []*pgconn.PgConn

// atOnce is the number of sessions that are opened or closed concurrently.
const atOnce = 16

// openSessions opens sessions until there are n, and uses each new one once. After an error
// it returns those that are open.
func (b *bench) openSessions(ctx context.Context, p *path, open sessions, n int, use func(context.Context, *pgconn.PgConn) error) (sessions, error) {
	config, err := p.config()
	if err != nil {
		return open, err
	}
	var mu sync.Mutex // guards open
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for range n - len(open) {
		group.Go(func() error {
			conn, err := pgconn.ConnectConfig(groupCtx, config)
			if err != nil {
				return err
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			return use(groupCtx, conn)
		})
	}
	if err := group.Wait(); err != nil {
		return open, fmt.Errorf("%s: session %d: %w", p.name, len(open)+1, err)
	}
	return open, nil
}

// close ends them all.
func (s sessions) close(ctx context.Context) error {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, conn := range s {
		group.Go(func() error { return conn.Close(ctx) })
	}
	return group.Wait()
}

// little is the smallest use of a session.
func little(ctx context.Context, conn *pgconn.PgConn) error {
	_, err := conn.Exec(ctx, "SELECT 1").ReadAll()
	return err
}

// The size of much.
const (
	muchUp   = 64 << 10
	muchDown = 1 << 20
)

// much fills every buffer in both directions.
func much(ctx context.Context, conn *pgconn.PgConn) error {
	up := bytes.Repeat([]byte("x"), muchUp)
	result := conn.ExecParams(ctx, fmt.Sprintf("SELECT repeat('x', %d), length($1::text)", muchDown), [][]byte{up}, nil, nil, nil)
	var down int
	for result.NextRow() {
		down += len(result.Values()[0])
	}
	if _, err := result.Close(); err != nil {
		return err
	}
	if down != muchDown {
		return errors.New("not all of a result came")
	}
	return nil
}
