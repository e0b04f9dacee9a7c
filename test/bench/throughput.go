//go:build linux

package main

import (
	"context"
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
			report, err := b.pgbench(ctx, p, "-M", "prepared", "-c", n, "-j", threads(clients), "-T", strconv.Itoa(b.size.seconds))
			if err != nil {
				return err
			}
			b.note("select-"+n, p.name, report.tps)
			if p.pid != 0 {
				b.note("cpu-"+n, p.name, report.proxyCPU/report.transactions*1e6)
			}
			return nil
		})
	}
}
