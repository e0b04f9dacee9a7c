//go:build linux

package main

import (
	"context"
	"errors"
	"strconv"
)

// poolSize is the number of clients that connect for each transaction, and the pool of the
// proxies if they have one.
const poolSize = 8

// logins measures clients that log in for each transaction, as many as the machine can, and
// the CPU time of a login in the client and the proxy together: through a proxy, the client
// has no TLS. PgBouncer would not log in each time.
func logins(ctx context.Context, b *bench, targets []target) error {
	return b.each(ctx, withLogins(targets), func(p *path) error {
		report, err := b.pgbench(ctx, p, "-C", "-c", strconv.Itoa(poolSize), "-j", "2", "-T", strconv.Itoa(b.size.seconds))
		if err != nil {
			return err
		}
		b.note("logins", p.name, report.tps)
		b.note("login-cpu", p.name, (report.clientCPU+report.proxyCPU)/report.transactions*1000)
		if p.pid != 0 {
			b.note("login-proxy-cpu", p.name, report.proxyCPU/report.transactions*1000)
		}
		return nil
	})
}

func withLogins(targets []target) []target {
	var some []target
	for _, t := range targets {
		if t.name != pgbouncerTarget {
			some = append(some, t)
		}
	}
	return some
}

// pooledConnects measures the same clients with proxies that have a pool.
func pooledConnects(ctx context.Context, b *bench, targets []target) error {
	for _, t := range proxied(targets) {
		p, err := b.openPool(ctx, t, poolSize)
		if err != nil {
			return err
		}
		report, err := b.pooled(ctx, p)
		if err := errors.Join(err, p.close()); err != nil {
			return err
		}
		b.note("connect-pool", p.name, report.tps)
		b.note("connect-pool-cpu", p.name, report.proxyCPU/report.transactions*1e6)
	}
	return nil
}

func (b *bench) pooled(ctx context.Context, p *path) (pgbenchReport, error) {
	if err := b.warm(ctx, p, poolSize); err != nil {
		return pgbenchReport{}, err
	}
	return b.pgbench(ctx, p, "-C", "-c", strconv.Itoa(poolSize), "-j", "2", "-T", strconv.Itoa(b.size.seconds))
}

// login measures the time of a login of one client, with the token at hand. The difference
// between targets is small, so that short runs alternate.
func login(ctx context.Context, b *bench, targets []target) (err error) {
	var paths []*path
	defer func() {
		for _, p := range paths {
			err = errors.Join(err, p.close())
		}
	}()
	for _, t := range withLogins(targets) {
		p, err := b.open(ctx, t)
		if err != nil {
			return err
		}
		paths = append(paths, p)
	}
	times := results{}
	for turn := range b.size.turns {
		for i := range paths {
			p := paths[(i+turn)%len(paths)]
			report, err := b.pgbench(ctx, p, "-C", "-c", "1", "-t", strconv.Itoa(b.size.logins))
			if err != nil {
				return err
			}
			times.add("", p.name, turn, report.connect)
		}
	}
	for _, p := range paths {
		b.note("login", p.name, times.of("", p.name).median)
	}
	return nil
}
