//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// A few clients with a fixed rate of transactions, far below the limit of the machine: the
// latency counts.
const (
	activeClients = 8
	activeRate    = "400"
)

// fewSessions are the sessions beside which the memory of more is counted.
const fewSessions = 10

// beside measures the latency of active clients beside idle sessions, and what the idle
// sessions take. The targets alternate within each round.
func beside(n int) func(context.Context, *bench, []target) error {
	return func(ctx context.Context, b *bench, targets []target) (err error) {
		c, err := newCrowd(b, n, len(proxied(targets)))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.close(ctx)) }()
		for b.round = range b.rounds {
			b.saying = fmt.Sprintf("round %d of %d, beside-%d", b.round+1, b.rounds, n)
			for _, t := range turn(targets, b.round) {
				p, err := c.path(ctx, t)
				if err != nil {
					return err
				}
				latencies, err := b.latencies(ctx, p)
				if err != nil {
					return err
				}
				slices.Sort(latencies)
				b.note(besideName("p50", n), t.name, percentile(latencies, 50))
				b.note(besideName("p99", n), t.name, percentile(latencies, 99))
				b.note(besideName("p999", n), t.name, percentile(latencies, 99.9))
			}
		}
		return nil
	}
}

// turn returns the targets in the order of a round. Each second round is reversed, so that a
// proxy that is last in one round is first in the next, with the same sessions. The direct
// target comes second: it needs idle sessions of a proxy.
func turn(targets []target, round int) []target {
	order := slices.Clone(targets)
	if len(order) > 1 && !order[0].proxied() {
		order[0], order[1] = order[1], order[0]
	}
	if round%2 == 1 {
		slices.Reverse(order)
	}
	return order
}

// crowd has the idle sessions of each proxy. All proxies have them at the same time, if the
// memory suffices.
type crowd struct {
	b        *bench
	n        int
	together bool
	members  map[string]*member
	measured map[string]bool // the targets whose memory is known
}

// member is an open target with its idle sessions.
type member struct {
	path *path
	idle sessions
}

// sessionKiB is the memory of a session on this machine, mostly in the server. reserveKiB
// remains free if all proxies have sessions: without it, 10,000 sessions open half as fast.
const (
	sessionKiB = 2000
	reserveKiB = 4 << 20
)

func newCrowd(b *bench, n, proxies int) (*crowd, error) {
	text := first(availableLine, "/proc/meminfo")
	available, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("available memory: %w", err)
	}
	if need := n * sessionKiB; available < need {
		return nil, fmt.Errorf("%d sessions need %d GiB of memory, and %d GiB are available; exclude this measurement with -only",
			n, need>>20, available>>20)
	}
	c := &crowd{b: b, n: n, members: make(map[string]*member), measured: make(map[string]bool)}
	c.together = proxies*n <= serverSessions && available >= proxies*n*sessionKiB+reserveKiB
	if !c.together {
		b.say("the memory is for one proxy at a time")
	}
	return c, nil
}

// path returns the path of a target, with the idle sessions. To the server, idle sessions of
// all targets are the same, so that the direct target uses those of a proxy, if one has any.
func (c *crowd) path(ctx context.Context, t target) (*path, error) {
	if m := c.members[t.name]; m != nil {
		return m.path, nil
	}
	if !c.together && t.proxied() {
		if err := c.close(ctx); err != nil {
			return nil, err
		}
	}
	alone := len(c.members) == 0
	p, err := c.b.open(ctx, t)
	if err != nil {
		return nil, err
	}
	m := &member{path: p}
	c.members[t.name] = m
	if !t.proxied() && !alone {
		return p, nil
	}
	if t.proxied() && !c.measured[t.name] {
		c.measured[t.name] = true
		return p, c.measure(ctx, m)
	}
	m.idle, err = c.b.openSessions(ctx, p, nil, c.n, little)
	return p, err
}

// measure opens the sessions, and measures what they take. The memory of a session is the
// difference between few sessions and the most.
func (c *crowd) measure(ctx context.Context, m *member) (err error) {
	var few memory
	if c.n == mostSessions {
		if few, err = c.openUntil(ctx, m, fewSessions); err != nil {
			return err
		}
	}
	all, err := c.openUntil(ctx, m, c.n)
	if err != nil {
		return err
	}
	if c.n == mostSessions {
		c.b.note("session", m.path.name, (all.resident-few.resident)/(mostSessions-fewSessions))
	}
	c.b.note(besideName("memory", c.n), m.path.name, all.resident/1024)
	perMinute, err := idleCPU(ctx, m.path.pid, time.Duration(c.b.size.watch)*time.Second)
	if err != nil {
		return err
	}
	c.b.note(besideName("idle-cpu", c.n), m.path.name, perMinute)
	return nil
}

// openUntil opens sessions until there are n, and returns the memory of the proxy.
func (c *crowd) openUntil(ctx context.Context, m *member, n int) (memory, error) {
	var err error
	if m.idle, err = c.b.openSessions(ctx, m.path, m.idle, n, little); err != nil {
		return memory{}, err
	}
	stable, _, err := settled(ctx, m.path.pid, 4*settleEvery)
	return stable, err
}

// close ends all sessions.
func (c *crowd) close(ctx context.Context) error {
	var errs []error
	for _, m := range c.members {
		errs = append(errs, m.idle.close(ctx))
	}
	for _, m := range c.members { // a closed path has no session on the server
		errs = append(errs, m.path.end())
	}
	for name, m := range c.members {
		errs = append(errs, m.path.quiet())
		delete(c.members, name)
	}
	return errors.Join(errs...)
}

// idleCPU returns the CPU time of a process per minute, in seconds, measured over a part of
// one.
func idleCPU(ctx context.Context, pid int, watch time.Duration) (float64, error) {
	before, err := cpu(pid)
	if err != nil {
		return 0, err
	}
	if err := pause(ctx, watch); err != nil {
		return 0, err
	}
	after, err := cpu(pid)
	return (after - before) * time.Minute.Seconds() / watch.Seconds(), err
}
