//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// pgbenchReport is the final report of pgbench, with the CPU time of its run in seconds.
type pgbenchReport struct {
	transactions        float64
	tps                 float64 // of the sessions, or with the connects if each transaction has one
	connect             float64 // average ms of a connect; only if each transaction has one
	clientCPU, proxyCPU float64
}

// pgbench runs pgbench's SELECT of one row, with more arguments.
func (b *bench) pgbench(ctx context.Context, p *path, args ...string) (pgbenchReport, error) {
	run, err := b.client(ctx, p, "pgbench", append([]string{"-n", "-S"}, args...)...)
	if err != nil {
		return pgbenchReport{}, err
	}
	report, err := parsePgbench(run.out)
	if err != nil {
		return pgbenchReport{}, fmt.Errorf("%s: %w", p.name, err)
	}
	report.clientCPU, report.proxyCPU = run.clientCPU, run.proxyCPU
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

// latencies returns the latency of each transaction of the active clients, in ms, from its
// scheduled start.
func (b *bench) latencies(ctx context.Context, p *path) ([]float64, error) {
	prefix := filepath.Join(b.dir, "latency")
	defer removeAll(prefix)
	if err := b.warm(ctx, p, activeClients); err != nil {
		return nil, err
	}
	_, err := b.pgbench(ctx, p, "-M", "prepared", "-c", strconv.Itoa(activeClients), "-j", "2", "-R", activeRate,
		"-T", strconv.Itoa(b.size.watch), "-l", "--log-prefix="+prefix)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(prefix + ".*") // one of each thread
	if err != nil {
		return nil, err
	}
	var all []float64
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		some, err := parseLatencies(string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	if len(all) == 0 {
		return nil, errors.New("pgbench logged nothing")
	}
	return all, nil
}

func removeAll(prefix string) {
	files, _ := filepath.Glob(prefix + ".*") // the pattern is valid
	for _, file := range files {
		_ = os.Remove(file)
	}
}

// parseLatencies parses pgbench's log of transactions: the third field has microseconds.
func parseLatencies(log string) ([]float64, error) {
	var all []float64
	for line := range strings.Lines(log) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			return nil, fmt.Errorf("pgbench logged %q", line)
		}
		microseconds, err := strconv.ParseFloat(fields[2], 64)
		if err != nil {
			return nil, fmt.Errorf("pgbench logged %q", line)
		}
		all = append(all, microseconds/1000)
	}
	return all, nil
}

// percentile returns the least of the sorted values that percent of them do not exceed.
func percentile(sorted []float64, percent float64) float64 {
	rank := int(math.Ceil(float64(len(sorted)) * percent / 100))
	return sorted[max(0, rank-1)]
}
