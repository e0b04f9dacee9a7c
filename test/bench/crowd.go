//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// busyClients is the number of clients that work among idle ones.
const busyClients = 100

// crowd measures whether idle clients slow down busy ones. The direct target shows the
// effect on the server, which has a process for each.
func crowd(ctx context.Context, b *bench, targets []target) error {
	if err := roomFor(b.size.crowd); err != nil {
		return err
	}
	return b.each(ctx, targets, func(p *path) (err error) {
		alone, err := b.busy(ctx, p)
		if err != nil {
			return err
		}
		open, err := b.openSessions(ctx, p, nil, b.size.crowd, little)
		defer func() { err = errors.Join(err, open.close(ctx)) }()
		if err != nil {
			return err
		}
		return b.amongIdle(ctx, p, alone)
	})
}

// amongIdle measures the throughput with idle sessions.
func (b *bench) amongIdle(ctx context.Context, p *path, alone float64) error {
	among, err := b.busy(ctx, p)
	if err != nil {
		return err
	}
	b.say("%s: %.0f queries per second alone, %.0f beside idle sessions", p.name, alone, among)
	b.note("crowd", p.name, among/alone)
	return nil
}

// busy returns the throughput of the busy clients. There are only two runs of it, which are
// longer than others.
func (b *bench) busy(ctx context.Context, p *path) (float64, error) {
	if err := b.warm(ctx, p, busyClients); err != nil {
		return 0, err
	}
	report, err := b.pgbench(ctx, p, "-M", "prepared", "-c", strconv.Itoa(busyClients), "-j", "2", "-T", strconv.Itoa(2*b.size.seconds))
	return report.tps, err
}

// sessionKiB is the memory of a session on this machine, mostly in the server.
const sessionKiB = 2560

// roomFor reports whether the machine has the memory for that many sessions.
func roomFor(sessions int) error {
	text := first(availableLine, "/proc/meminfo")
	available, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("available memory: %w", err)
	}
	if available < sessions*sessionKiB {
		return fmt.Errorf("%d sessions need %d GiB of memory, and %d GiB are available; exclude this measurement with -only",
			sessions, sessions*sessionKiB>>20, available>>20)
	}
	return nil
}
