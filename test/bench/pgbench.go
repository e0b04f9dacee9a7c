//go:build linux

package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
)

// pgbenchReport is the final report of pgbench.
type pgbenchReport struct {
	transactions float64
	tps          float64 // of the sessions, or with the connects if each transaction has one
	connect      float64 // average ms of a connect; only if each transaction has one
}

// pgbench runs pgbench's SELECT of one row, with more arguments.
func (b *bench) pgbench(ctx context.Context, p *path, args ...string) (pgbenchReport, error) {
	out, err := b.client(ctx, p, "pgbench", append([]string{"-n", "-S"}, args...)...)
	if err != nil {
		return pgbenchReport{}, err
	}
	report, err := parsePgbench(out)
	if err != nil {
		return pgbenchReport{}, fmt.Errorf("%s: %w", p.name, err)
	}
	return report, nil
}

// warm opens that many server sessions before a measurement. PgBouncer accepts a client
// without the server and logs in at the first query, one session after the other, which
// would count as throughput. iamproxy and libpq log in first.
func (b *bench) warm(ctx context.Context, p *path, clients int) error {
	_, err := b.pgbench(ctx, p, "-M", "prepared", "-c", strconv.Itoa(clients), "-j", threads(clients), "-t", "10")
	return err
}

var (
	transactionsLine = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	failedLine       = regexp.MustCompile(`(?m)^number of failed transactions: (\d+)`)
	tpsLine          = regexp.MustCompile(`(?m)^tps = ([\d.]+)`)
	connectLine      = regexp.MustCompile(`(?m)^average connection time = ([\d.]+) ms`)
)

func parsePgbench(out string) (pgbenchReport, error) {
	var r pgbenchReport
	if failed, ok := number(failedLine, out); ok && failed > 0 {
		return r, fmt.Errorf("pgbench: %v transactions failed", failed)
	}
	var counted, timed bool
	r.transactions, counted = number(transactionsLine, out)
	r.tps, timed = number(tpsLine, out)
	if !counted || !timed || r.transactions == 0 {
		return r, fmt.Errorf("pgbench did nothing: %q", out)
	}
	r.connect, _ = number(connectLine, out) // only with -C
	return r, nil
}

func number(line *regexp.Regexp, out string) (float64, bool) {
	found := line.FindStringSubmatch(out)
	if found == nil {
		return 0, false
	}
	value, err := strconv.ParseFloat(found[1], 64)
	return value, err == nil
}
