//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// point is what was measured with a number of sessions. What a target has none of is
// NaN: without a proxy there is no memory of it.
type point struct {
	sessions          int
	memory, cpu       float64 // MiB, and seconds of each minute in which all are idle
	latency, latency9 float64 // ms: the mean, and what 99 of 100 transactions keep below
}

// A few clients, which together want so many transactions a second, are far from
// what the machine can do: what counts is how long each has to wait.
const (
	scaleClients = 8
	scaleRate    = "400"
)

// scale measures what more and more sessions do to a proxy, and to clients among them.
// At the end there is a crowd, so that crowd need not make one of its own.
func scale(ctx context.Context, b *bench, targets []target) error {
	if err := roomFor(slices.Max(b.size.scale)); err != nil {
		return err
	}
	b.points = make(map[string][]point)
	for _, t := range targets {
		// In a proxy of its own, whose memory nobody looks at.
		var alone float64
		err := b.each(ctx, []target{t}, func(p *path) (err error) {
			alone, err = b.busy(ctx, p)
			return err
		})
		if err != nil {
			return err
		}
		err = b.each(ctx, []target{t}, func(p *path) error { return b.scaleUp(ctx, p, alone) })
		if err != nil {
			return err
		}
	}
	return nil
}

// scaleUp measures at each number of sessions, and among the last of them compares
// with the throughput alone.
func (b *bench) scaleUp(ctx context.Context, p *path, alone float64) (err error) {
	var open sessions
	defer func() { err = errors.Join(err, open.close(ctx)) }()
	for _, n := range b.size.scale {
		if open, err = b.openSessions(ctx, p, open, n, little); err != nil {
			return err
		}
		at, err := b.measureAt(ctx, p, n)
		if err != nil {
			return err
		}
		b.say("%s, %d sessions: %s", p.name, n, at)
		b.points[p.name] = append(b.points[p.name], at)
	}
	return b.amongIdle(ctx, p, alone)
}

func (p point) String() string {
	text := fmt.Sprintf("%.2f ms, 99 of 100 below %.2f ms", p.latency, p.latency9)
	if math.IsNaN(p.memory) {
		return text
	}
	return fmt.Sprintf("%.1f MiB, %.3f CPU s a minute, %s", p.memory, p.cpu, text)
}

func (b *bench) measureAt(ctx context.Context, p *path, n int) (point, error) {
	at := point{sessions: n, memory: math.NaN(), cpu: math.NaN()}
	if p.pid != 0 {
		if _, _, err := settled(ctx, p.pid, 4*settleEvery); err != nil {
			return at, err
		}
		var err error
		if at.cpu, err = idleCPU(ctx, p.pid, time.Duration(b.size.watch)*time.Second); err != nil {
			return at, err
		}
		memory, err := resident(p.pid)
		if err != nil {
			return at, err
		}
		at.memory = memory / 1024
	}
	latencies, err := b.latencies(ctx, p)
	if err != nil {
		return at, err
	}
	at.latency, at.latency9 = mean(latencies), percentile(latencies, 99)
	return at, nil
}

// idleCPU is the CPU time that a process takes in a minute, of which it is watched a
// part.
func idleCPU(ctx context.Context, pid int, watch time.Duration) (float64, error) {
	before, err := fineCPU(pid)
	if err != nil {
		return 0, err
	}
	select {
	case <-time.After(watch):
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	after, err := fineCPU(pid)
	return (after - before) * time.Minute.Seconds() / watch.Seconds(), err
}

// latencies are those of each transaction, in ms, from the time on that it was due.
func (b *bench) latencies(ctx context.Context, p *path) ([]float64, error) {
	prefix := filepath.Join(b.dir, "latency")
	defer removeAll(prefix)
	if err := b.warm(ctx, p, scaleClients); err != nil {
		return nil, err
	}
	_, err := b.pgbench(ctx, p, "-M", "prepared", "-c", strconv.Itoa(scaleClients), "-j", "2", "-R", scaleRate,
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
	files, _ := filepath.Glob(prefix + ".*") // the pattern is a good one
	for _, file := range files {
		_ = os.Remove(file)
	}
}

// parseLatencies reads pgbench's log of transactions: the third field has microseconds.
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

func mean(values []float64) float64 {
	var sum float64
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// percentile is the least value that so many of a hundred do not exceed.
func percentile(values []float64, percent int) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}
