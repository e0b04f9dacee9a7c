//go:build linux

// Bench measures iamproxy beside PgBouncer and beside a client that logs in by itself. It
// starts one PostgreSQL that verifies tokens as Aurora does, runs the same clients against
// each target in turn, and prints the results. It exits with 1 only if a measurement could
// not be run: a missed goal is a result.
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

	"github.com/iamproxy/iamproxy/tools/mdtable"
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
	flag.StringVar(&o.baseline, "baseline", "", "another iamproxy, measured as well and compared with the first")
	flag.StringVar(&o.page, "write", "", "the `PAGE` whose figures are to be replaced, if all could be run")
	flag.IntVar(&o.rounds, "rounds", 5, "how often each measurement is made")
	flag.StringVar(&o.only, "only", "", "a `REGEXP` of the names of the measurements to make: "+strings.Join(names(), ", "))
	flag.BoolVar(&o.quick, "quick", false, "short runs, for a look; nothing to rely on")
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
	result := about + "\n" + table(b.results, b.targets)
	fmt.Fprintf(out, "\n%s", result)
	if len(b.points) > 0 {
		fmt.Fprintf(out, "\n%s", scaleTable(b.points, b.targets))
	}
	if failed != nil || o.page == "" {
		return failed
	}
	return errors.Join(mdtable.Replace(o.page, tablePlace, result), writeScale(o.page, b.points, b.targets))
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
		return nil, fmt.Errorf("-only %s: there are only %s", o.only, strings.Join(names(), ", "))
	case o.rounds < 1:
		return nil, errors.New("-rounds: at least 1")
	case o.page != "" && (o.quick || o.only != "" || o.baseline != ""):
		return nil, errors.New("a page has all figures and no others: leave out -write, or -quick, -only and -baseline")
	}
	for _, m := range chosen {
		if m.pool && !hasPool(o.binary) {
			return nil, fmt.Errorf("%s: %s has no --pool; leave this measurement out with -only", m.name, o.binary)
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
	return fmt.Errorf("%d measurements could not be run, such as %w", len(failures), failures[0])
}

// rotate puts another target first in each round, since the machine may change from one
// minute to the next.
func rotate(targets []target, round int) []target {
	first := round % len(targets)
	return append(append([]target{}, targets[first:]...), targets[:first]...)
}
