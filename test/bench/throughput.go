//go:build linux

package main

import (
	"context"
	"errors"
	"strconv"
)

// threads returns the number of threads of pgbench.
func threads(clients int) string { return strconv.Itoa(min(clients, 2)) }

// selects measures transactions of one small query (pgbench -S), and their CPU time in the
// proxy. Each transaction has nine messages: Bind, Describe, Execute and Sync, and back
// BindComplete, RowDescription, DataRow, CommandComplete and ReadyForQuery.
func selects(clients int) func(context.Context, *bench, []target) error {
	n := strconv.Itoa(clients)
	return func(ctx context.Context, b *bench, targets []target) error {
		return b.each(ctx, targets, func(p *path) error {
			if err := b.warm(ctx, p, clients); err != nil {
				return err
			}
			before, err := cpu(p.pid)
			if err != nil {
				return err
			}
			report, err := b.pgbench(ctx, p, "-M", "prepared", "-c", n, "-j", threads(clients), "-T", strconv.Itoa(b.size.seconds))
			if err != nil {
				return err
			}
			b.note("select-"+n, p.name, report.tps)
			after, err := cpu(p.pid)
			if p.pid != 0 && err == nil {
				b.note("cpu-"+n, p.name, (after-before)/report.transactions*1e6)
			}
			return err
		})
	}
}

// poolSize is the pool of the proxies when clients connect for each transaction.
const poolSize = 8

// pooledConnects measures clients that connect for each transaction to a proxy with a pool,
// and to the server. An older iamproxy has none.
func pooledConnects(ctx context.Context, b *bench, targets []target) error {
	for _, t := range targets {
		if t.name == baselineTarget && !hasPool(t.binary) {
			continue
		}
		p, err := b.openPool(ctx, t, sessionsMost, poolSize)
		if err != nil {
			return err
		}
		report, err := b.pooled(ctx, p)
		if err := errors.Join(err, p.close()); err != nil {
			return err
		}
		b.note("connect-pool", p.name, report.tps)
	}
	return nil
}

func (b *bench) pooled(ctx context.Context, p *path) (pgbenchReport, error) {
	if err := b.warm(ctx, p, poolSize); err != nil {
		return pgbenchReport{}, err
	}
	return b.pgbench(ctx, p, "-C", "-c", strconv.Itoa(poolSize), "-j", "2", "-T", strconv.Itoa(b.size.seconds))
}

// connects measures how much longer a login takes through iamproxy than directly, with the
// token at hand for both. The difference is small, so that short runs of both alternate.
// PgBouncer would not log in each time.
func connects(ctx context.Context, b *bench, targets []target) (err error) {
	var paths []*path
	defer func() {
		for _, p := range paths {
			err = errors.Join(err, p.close())
		}
	}()
	for _, t := range targets {
		if t.name == pgbouncerTarget {
			continue
		}
		p, err := b.open(ctx, t, sessionsMost)
		if err != nil {
			return err
		}
		paths = append(paths, p)
	}
	times := results{}
	for pair := range b.size.pairs {
		for i := range paths {
			p := paths[(i+pair)%len(paths)]
			report, err := b.pgbench(ctx, p, "-C", "-c", "1", "-t", strconv.Itoa(b.size.connects))
			if err != nil {
				return err
			}
			times.add("connect", p.name, pair, report.connect)
		}
	}
	direct := times["connect"][directTarget]
	b.say("direct: %.2f ms", summarize(direct).median)
	for _, p := range paths {
		if p.name != directTarget {
			b.note("connect", p.name, medianDifference(times["connect"][p.name], direct))
		}
	}
	return nil
}
