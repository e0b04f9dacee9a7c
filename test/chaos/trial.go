//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// backLimit is in what time after a fault's end a new client has its session.
	backLimit = 2 * time.Second
	// giveUp is when it is no longer waited for.
	giveUp = 60 * time.Second
	// probeEvery is how far clients are apart that find out about that.
	probeEvery = 50 * time.Millisecond
	// settleLimit is how long what a fault has left behind may take to be gone.
	settleLimit = 60 * time.Second
	// memorySlack is how much more memory there may be afterwards, in KiB: what the
	// runtime has not given back yet.
	memorySlack = 12 << 10
)

// fault is something that goes wrong, and then no longer does.
type fault struct {
	name string
	hold time.Duration
	// begin and end take and give back. What is still wrong when end returns is the
	// fault's.
	begin, end func(ctx context.Context, p *place) error
	// spares says that no client may notice it by more than a wait.
	spares bool
	// cuts says that clients may lose the connection before they have a session, which is
	// not for iamproxy to help.
	cuts bool
}

// trial is one fault, and what it came to.
type trial struct {
	fault   fault
	back    time.Duration // from the fault's end to a new client's session
	allBack time.Duration // until clients of each kind have done a piece of work
	during  []observation
	account account
	before  holdings
	after   holdings
	took    time.Duration
	err     error // why it is a failure
}

// try is one fault: clients work, it goes wrong for a while, clients work again, and
// when they have left nothing of them is left.
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
		return sayWhy("the fault cannot be made", err)
	}
	sleep(ctx, t.fault.hold)
	if err := t.fault.end(ctx, p); err != nil {
		return sayWhy("the fault cannot be ended", err)
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
	if t.back > backLimit {
		return fmt.Errorf("service was back only after %v", t.back.Round(time.Millisecond))
	}
	return nil
}

// back is how long after since the first client has a session that came after it.
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
			return 0, fmt.Errorf("no client gets in any more: %w", last)
		}
	}
}

// probe is one client that says when it had an answer.
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

// complain is about what no client may have seen.
func (t *trial) complain() error {
	var wrong wrongData
	for _, o := range t.during {
		switch {
		case errors.As(o.err, &wrong):
			return fmt.Errorf("%s: %w", o.kind, o.err)
		case o.told() == "no answer":
			return fmt.Errorf("%s: a client waited %v in vain: %w", o.kind, opLimit, o.err)
		case o.err != nil && t.fault.spares:
			return fmt.Errorf("%s: a client was not spared: %w", o.kind, o.err)
		case o.atLogin() && o.told() == "connection lost" && !t.fault.cuts:
			return fmt.Errorf("%s: a client was not told why it has no session: %w", o.kind, o.err)
		}
	}
	return nil
}

// settled waits until iamproxy and the server have no more than before.
func (p *place) settled(ctx context.Context, before holdings) (now holdings, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	for {
		if now, err = p.proxy.holdings(ctx); err == nil && now.within(before) {
			return now, nil
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return now, errors.Join(fmt.Errorf("something is left behind: %+v, and before %+v", now, before), err)
		}
	}
}

// within reports whether there is no more of anything.
func (h holdings) within(before holdings) bool {
	return h.sessions <= before.sessions && h.sockets <= before.sockets && h.goroutines <= before.goroutines &&
		h.backends <= before.backends && h.memory <= before.memory+memorySlack
}
