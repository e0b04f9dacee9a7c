//go:build linux

// Bench measures iamproxy beside PgBouncer and beside a client that logs in by itself. It
// starts one PostgreSQL that verifies tokens as Aurora does, runs the same clients against
// each target in turn, and prints the results beside the goals. It exits with status 1 only if
// a measurement could not be run: a missed goal is a result.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
)

// options are the flags.
type options struct {
	binary, baseline string
	page             string
	rounds           int
	only             string
	quick            bool
}

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "bin/iamproxy", "the iamproxy to measure")
	flag.StringVar(&o.baseline, "baseline", "", "another iamproxy, to measure and compare with the first")
	flag.StringVar(&o.page, "write", "", "the `PAGE` to write the results into, if no measurement failed")
	flag.IntVar(&o.rounds, "rounds", 5, "the number of runs of each measurement")
	flag.StringVar(&o.only, "only", "", "a `REGEXP` of the measurements to run: "+strings.Join(names(), ", "))
	flag.BoolVar(&o.quick, "quick", false, "short runs, whose results are not reliable")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out, progress io.Writer) (err error) {
	chosen, err := o.check()
	if err != nil {
		return err
	}
	b, err := start(ctx, o, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	about, err := b.machine(ctx)
	if err != nil {
		return err
	}
	failed := b.measureAll(ctx, chosen, o.rounds)
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	fmt.Fprintf(out, "\n%s\n%s\n%s\n", about, table(b.results, b.targets), score(b.results))
	if len(b.points) > 0 {
		fmt.Fprintf(out, "\n%s", scaleTable(b.points, b.targets))
	}
	if failed != nil || o.page == "" {
		return failed
	}
	return b.writePage(o.page, about)
}

// check returns an error for what cannot be done, before the start.
func (o options) check() ([]measurement, error) {
	pattern, err := regexp.Compile(o.only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	chosen := choose(pattern)
	switch {
	case len(chosen) == 0:
		return nil, fmt.Errorf("-only %s matches none of %s", o.only, strings.Join(names(), ", "))
	case o.rounds < 1:
		return nil, errors.New("-rounds must be at least 1")
	case o.page != "" && (o.quick || o.only != "" || o.baseline != ""):
		return nil, errors.New("-write cannot be combined with -quick, -only or -baseline")
	}
	for _, m := range chosen {
		if m.pool && !hasPool(o.binary) {
			return nil, fmt.Errorf("%s: %s has no --pool; exclude this measurement with -only", m.name, o.binary)
		}
	}
	return chosen, nil
}

// measureAll runs the chosen measurements, round by round. It continues after a failed one.
func (b *bench) measureAll(ctx context.Context, chosen []measurement, rounds int) error {
	var failures []error
	for round := range rounds {
		for _, m := range chosen {
			if m.rounds > 0 && round >= m.rounds || ctx.Err() != nil {
				continue
			}
			b.saying = fmt.Sprintf("round %d of %d, %s", round+1, rounds, m.name)
			b.round = round
			b.cluster.ResetVerdicts() // they would only grow
			if err := m.run(ctx, b, rotate(b.targets, round)); err != nil {
				failures = append(failures, fmt.Errorf("%s: %w", b.saying, err))
				b.say("failed: %v", err)
			}
		}
	}
	if len(failures) == 0 {
		return nil
	}
	return fmt.Errorf("%d measurements failed, such as %w", len(failures), failures[0])
}

// rotate puts another target first in each round, since the machine may change from one
// minute to the next.
func rotate(targets []target, round int) []target {
	first := round % len(targets)
	return append(append([]target{}, targets[first:]...), targets[:first]...)
}
