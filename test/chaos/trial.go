//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// backLimit bounds the time from a fault's end to a new client's session.
	backLimit = 2 * time.Second
	// giveUp bounds the wait for it.
	giveUp = 60 * time.Second
	// probeEvery is the interval of the clients that measure it.
	probeEvery = 50 * time.Millisecond
	// settleLimit bounds the time until the effects of a fault are gone.
	settleLimit = 60 * time.Second
	// memorySlack is the allowed growth of memory, in KiB, which the runtime has not
	// returned yet.
	memorySlack = 12 << 10
)

// fault is a fault with a beginning and an end.
type fault struct {
	group group
	name  string
	row   string // of the page, if faults share one
	hold  time.Duration
	// begin and end start and end the fault. Problems after end belong to the fault.
	begin, end func(ctx context.Context, p *place) error
	// backWithin bounds the time to a new client's session after end. If zero, backLimit.
	backWithin time.Duration
	// spares is set if clients must notice no more than a wait.
	spares bool
	// cuts is set if clients may lose connections before they have a session, which
	// iamproxy cannot prevent.
	cuts bool
}

// trial is one fault, and its result.
type trial struct {
	fault   fault
	back    time.Duration // from the fault's end to a new client's session
	allBack time.Duration // until each kind has finished an operation
	during  []observation
	account account
	before  holdings
	after   holdings
	took    time.Duration
	err     error // why it failed
}

// try runs one trial: clients work, the fault begins and ends, clients work again. After
// they have disconnected, no resources of theirs remain.
func (p *place) try(ctx context.Context, f fault, before holdings, l *load) (t trial) {
	began := time.Now()
	t = trial{fault: f, before: before}
	l.start(ctx)
	t.err = t.happen(ctx, p, l)
	l.halt()
	t.during = l.take()
	var err error
	t.account, err = l.ledger.settle(ctx, &p.cluster)
	t.err = errors.Join(t.err, err, t.complain())
	t.after, err = p.settled(ctx, before)
	t.err = errors.Join(t.err, err, p.proxy.trouble())
	t.took = time.Since(began)
	return t
}

func (t *trial) happen(ctx context.Context, p *place, l *load) error {
	working, cancel := context.WithTimeout(ctx, giveUp)
	defer cancel()
	if err := l.allWork(working, time.Now()); err != nil {
		return sayWhy("before the fault", err)
	}
	l.take()
	if err := t.fault.begin(ctx, p); err != nil {
		return sayWhy("begin the fault", err)
	}
	sleep(ctx, t.fault.hold)
	if err := t.fault.end(ctx, p); err != nil {
		return sayWhy("end the fault", err)
	}
	ended := time.Now()
	var err error
	if t.back, err = p.back(ctx, ended); err != nil {
		return err
	}
	working, cancel = context.WithTimeout(ctx, giveUp)
	defer cancel()
	if err := l.allWork(working, ended); err != nil {
		return sayWhy("after the fault", err)
	}
	t.allBack = time.Since(ended)
	if t.back > cmp.Or(t.fault.backWithin, backLimit) {
		return fmt.Errorf("new clients had to wait for %v after the fault", t.back.Round(time.Millisecond))
	}
	return nil
}

// back returns the time from since to the first session of a client that connected after
// it.
func (p *place) back(ctx context.Context, since time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, giveUp)
	defer cancel()
	in := make(chan time.Time, 1)
	failed := make(chan error, 1)
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	var last error
	go p.probe(ctx, in, failed)
	for {
		select {
		case at := <-in:
			return at.Sub(since), nil
		case last = <-failed:
		case <-ticker.C:
			go p.probe(ctx, in, failed)
		case <-ctx.Done():
			return 0, fmt.Errorf("new clients cannot log in: %w", last)
		}
	}
}

// probe runs one client that reports when it had an answer.
func (p *place) probe(ctx context.Context, in chan<- time.Time, failed chan<- error) {
	c := &client{place: p}
	err := c.with(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "select 1")
		if err == nil {
			select {
			case in <- time.Now():
			default:
			}
		}
		return err
	})
	if err != nil {
		select {
		case failed <- err:
		default:
		}
	}
}

// complain returns an error for what no client may have seen.
func (t *trial) complain() error {
	var wrong wrongData
	for _, o := range t.during {
		switch {
		case errors.As(o.err, &wrong):
			return fmt.Errorf("%s: %w", o.kind, o.err)
		case o.received() == "no answer":
			return fmt.Errorf("%s: a client had no answer within %v: %w", o.kind, opLimit, o.err)
		case o.err != nil && t.fault.spares:
			return fmt.Errorf("%s: a client had an error, where only a wait is allowed: %w", o.kind, o.err)
		case o.atLogin() && o.received() == connectionLost && !t.fault.cuts:
			return fmt.Errorf("%s: a login ended without an ErrorResponse: %w", o.kind, o.err)
		}
	}
	return nil
}

// settled waits until iamproxy and the server have no more resources than before.
func (p *place) settled(ctx context.Context, before holdings) (now holdings, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	for {
		if now, err = p.proxy.holdings(ctx); err == nil && now.within(before) {
			return now, nil
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return now, errors.Join(fmt.Errorf("resources are not released: %+v, and before %+v", now, before), err)
		}
	}
}

// within reports whether no resource has grown.
func (h holdings) within(before holdings) bool {
	return h.sessions <= before.sessions && h.sockets <= before.sockets && h.goroutines <= before.goroutines &&
		h.backends <= before.backends && h.memory <= before.memory+memorySlack
}
