//go:build linux

// Bench measures iamproxy beside PgBouncer and beside a client that logs in by itself. It
// starts one PostgreSQL that verifies tokens as Aurora does, runs the same clients against
// each target in turn, and prints the results and the goals. It exits with status 1 if
// a measurement could not be run, or if -check finds a figure that is worse than that of the
// baseline. A missed goal is a result.
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
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	binary, baseline, pgbouncer string
	paths                       string
	page                        string
	rounds                      int
	only                        string
	quick, check                bool
}

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "bin/iamproxy", "the iamproxy to measure")
	flag.StringVar(&o.baseline, "baseline", "", "another iamproxy, to measure and compare with the first")
	flag.StringVar(&o.pgbouncer, "pgbouncer", "", "the `PROGRAM` of another PgBouncer than the system's")
	flag.StringVar(&o.paths, "targets", "", "the `NAMES` of the targets to measure, separated by commas: "+
		strings.Join([]string{directTarget, pgbouncerTarget, iamproxyTarget, baselineTarget}, ", "))
	flag.BoolVar(&o.check, "check", false, "compare with the baseline only, and fail if a figure is more than 10 % worse")
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
	chosen, err := o.validate()
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
	measure := b.measureAll
	if o.check {
		measure = b.compare
	}
	failed := measure(ctx, chosen)
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	fmt.Fprintf(out, "\n%s\n%s\n%s", about, table(b.results, b.targets), goalTable(b.results))
	for _, reason := range b.omitted {
		fmt.Fprintf(out, "\nNot measured: %s\n", reason)
	}
	fmt.Fprintf(out, "\nThe run took %v.\n", time.Since(b.began).Round(time.Second))
	if failed != nil || o.page == "" {
		return failed
	}
	return b.writePage(o.page, about)
}

// validate returns the measurements, or an error for what cannot be done.
func (o options) validate() ([]measurement, error) {
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
	case o.page != "" && (o.quick || o.only != "" || o.baseline != "" || o.paths != ""):
		return nil, errors.New("-write cannot be combined with -quick, -only, -targets or -baseline")
	case o.check && o.baseline == "":
		return nil, errors.New("-check requires -baseline")
	case len(o.targets()) == 0:
		return nil, fmt.Errorf("-targets %s matches no target", o.paths)
	}
	return chosen, nil
}

// targets returns the targets to measure. A check measures iamproxy and the baseline only,
// unless others are named.
func (o options) targets() []target {
	all := []target{{name: directTarget}, {name: pgbouncerTarget}, {name: iamproxyTarget, binary: o.binary}}
	if o.baseline != "" {
		all = append(all, target{name: baselineTarget, binary: o.baseline})
	}
	paths := o.paths
	if o.check && paths == "" {
		paths = iamproxyTarget + "," + baselineTarget
	}
	if paths == "" {
		return all
	}
	wanted := strings.Split(paths, ",")
	return slices.DeleteFunc(all, func(t target) bool { return !slices.Contains(wanted, t.name) })
}

// measureAll runs the chosen measurements, round by round. It continues after a failed one.
func (b *bench) measureAll(ctx context.Context, chosen []measurement) error {
	var failures []error
	for round := range b.rounds {
		for _, m := range chosen {
			if m.rounds > 0 && round >= m.rounds || ctx.Err() != nil {
				continue
			}
			b.saying = fmt.Sprintf("round %d of %d, %s", round+1, b.rounds, m.name)
			b.round = round
			b.cluster.ResetVerdicts() // they would only grow
			err := m.run(ctx, b, rotate(b.targets, round))
			var lack cannotMeasure
			switch {
			case errors.As(err, &lack):
				b.say("not measured: %v", lack)
				if round == 0 {
					b.omitted = append(b.omitted, fmt.Sprintf("%s: %v", m.name, lack))
				}
			case err != nil:
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
