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

// point is a measurement with a number of sessions. Missing values are NaN, such as the
// memory without a proxy.
type point struct {
	sessions          int
	memory, cpu       float64 // MiB, and seconds per minute in which all are idle
	latency, latency9 float64 // ms: the mean, and the 99th percentile
}

// A few clients with a fixed rate of transactions, far below the limit of the machine: the
// latency counts.
const (
	scaleClients = 8
	scaleRate    = "400"
)

// scale measures the effect of more and more sessions on a proxy and on clients. The last
// step has the figures of crowd.
func scale(ctx context.Context, b *bench, targets []target) error {
	if err := roomFor(slices.Max(b.size.scale)); err != nil {
		return err
	}
	b.points = make(map[string][]point)
	for _, t := range targets {
		// In a separate proxy, whose memory is not measured.
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

// scaleUp measures at each number of sessions, and compares the throughput at the last one
// with that alone.
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

// idleCPU returns the CPU time of a process per minute, measured over a part of one.
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

// latencies returns the latency of each transaction, in ms, from its scheduled start.
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

func mean(values []float64) float64 {
	var sum float64
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// percentile returns the least value that p percent of the values do not exceed.
func percentile(values []float64, percent int) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}
