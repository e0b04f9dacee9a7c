//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// starts measures new processes: the CPU time until they listen, and the time until a client
// has the result of its first query. The credentials are in the environment. PgBouncer has a
// token in its configuration.
func starts(ctx context.Context, b *bench, targets []target) error {
	cpus, sessions := results{}, results{}
	for i := range b.size.starts {
		err := b.each(ctx, rotate(proxied(targets), i), func(p *path) error {
			used, err := cpu(p.pid)
			if err != nil {
				return err
			}
			cpus.add("", p.name, i, used*1000)
			took, err := firstSession(ctx, p)
			sessions.add("", p.name, i, took.Seconds()*1000)
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, t := range proxied(targets) {
		b.note("start-cpu", t.name, cpus.of("", t.name).median)
		b.note("first-session", t.name, sessions.of("", t.name).median)
	}
	return nil
}

// firstSession returns the time from the start of a proxy to the result of a query.
func firstSession(ctx context.Context, p *path) (took time.Duration, err error) {
	config, err := p.config()
	if err != nil {
		return 0, err
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return 0, err
	}
	err = little(ctx, conn)
	took = time.Since(p.started)
	return took, errors.Join(err, conn.Close(ctx))
}

// waits measures the CPU time of `iamproxy wait`, which health checks run.
func waits(ctx context.Context, b *bench, targets []target) error {
	return b.each(ctx, targets, func(p *path) error {
		if p.admin == "" {
			return nil
		}
		var used []float64
		for range b.size.starts {
			cmd := exec.CommandContext(ctx, p.binary, "wait", "--admin", p.admin, "--timeout", "10s")
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%s wait: %w: %s", p.binary, err, oneLine(out))
			}
			used = append(used, ended(cmd)*1000)
		}
		b.note("wait-cpu", p.name, summarize(used).median)
		return nil
	})
}
