//go:build linux

package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// load holds all clients at work.
type load struct {
	place  *place
	kinds  []kind
	ledger ledger
	seed   uint64 // of the next client

	stop    context.CancelFunc
	clients sync.WaitGroup

	mu  sync.Mutex
	all []observation
}

// observation is the result of one operation.
type observation struct {
	kind         string
	began, ended time.Time
	err          error
	// The longest login, and the longest wait for an answer.
	waited, stalled time.Duration
}

// start starts the clients. They work until halt.
func (l *load) start(ctx context.Context) {
	stopping, stop := context.WithCancel(ctx)
	l.stop = stop
	for k, kind := range l.kinds {
		for n := range kind.count {
			l.seed++
			random := rand.New(rand.NewPCG(l.seed, uint64(k)<<8|uint64(n)))
			l.clients.Go(func() { l.work(ctx, stopping, kind, &client{place: l.place, ledger: &l.ledger, random: random}) })
		}
	}
}

func (l *load) work(ctx, stopping context.Context, kind kind, c *client) {
	for stopping.Err() == nil {
		o := observation{kind: kind.name, began: time.Now()}
		limited, cancel := context.WithTimeout(ctx, opLimit)
		if kind.lasts {
			limited = stopping
		}
		c.waited, c.stalled = 0, 0
		o.err = kind.work(c, limited)
		cancel()
		o.waited, o.stalled = c.waited, c.stalled
		o.ended = time.Now()
		l.mu.Lock()
		l.all = append(l.all, o)
		l.mu.Unlock()
		sleep(stopping, kind.pause)
	}
}

// halt lets each client finish its operation, and returns when all have disconnected.
func (l *load) halt() {
	l.stop()
	l.clients.Wait()
}

// take returns the observations since the last call.
func (l *load) take() []observation {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

// allWork waits until each kind has finished an operation that began after since.
func (l *load) allWork(ctx context.Context, since time.Time) error {
	for {
		missing := l.missing(since)
		if missing == "" {
			return nil
		}
		if !sleep(ctx, 10*time.Millisecond) {
			return errors.New("no client finished: " + missing + l.lastError(missing))
		}
	}
}

func (l *load) missing(since time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, kind := range l.kinds {
		if !slices.ContainsFunc(l.all, func(o observation) bool {
			return o.kind == kind.name && o.err == nil && o.began.After(since)
		}) {
			return kind.name
		}
	}
	return ""
}

func (l *load) lastError(kind string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range slices.Backward(l.all) {
		if o.kind == kind && o.err != nil {
			return ", last error: " + o.err.Error()
		}
	}
	return ""
}

// connectionLost is received by a client whose connection ended without an ErrorResponse.
const connectionLost = "connection lost"

// received returns the error of an observation: an SQLSTATE, or how the connection ended. It is
// empty on success.
func (o observation) received() string {
	var said *pgconn.PgError
	switch {
	case o.err == nil:
		return ""
	case errors.As(o.err, &said):
		return said.Code
	case errors.Is(o.err, context.DeadlineExceeded):
		return "no answer"
	default:
		return connectionLost
	}
}

// atLogin reports whether there was no session yet.
func (o observation) atLogin() bool {
	var login loginError
	return errors.As(o.err, &login)
}
