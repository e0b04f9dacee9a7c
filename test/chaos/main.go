//go:build linux

// Chaos causes faults around iamproxy while clients work through it: in the server, the
// network, the DNS, the source of the credentials, and its own host. For each fault it
// records what clients saw, when new clients had a session again, and whether anything was
// lost, altered or leaked. It exits with status 1 if iamproxy did not keep the promises of
// docs/reliability.md. With -soak it causes no faults, and clients work for a long time.
//
// iamproxy and its clients run on another host than the database: in a network namespace.
// Between the two are TUN devices. Their packets go through this program, which delays and
// drops them, cuts a direction, and resets connections as a middlebox does that has lost its
// state. Random choices use a fixed seed. The DNS server, the credentials endpoint and STS are
// stand-ins that fail on request. The log is on a disk of 16 MiB. The faults of the clock set
// the time by which the database verifies tokens, since all processes share the clock of the
// machine. TestClockSteps in package auth sets iamproxy's.
//
// The clients are eleven at a time: four log in for one transaction each, three run many
// transactions in a session, one copies in and one out, one listens, and one has its queries
// canceled. Written rows have a checksum. The credentials live 12 seconds, so that they are
// refreshed all the time.
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
	"syscall"
	"time"

	"github.com/iamproxy/iamproxy/tools/mdtable"
)

// options are the flags.
type options struct {
	binary string
	page   string
	only   string
	seed   uint64
	soak   time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "bin/iamproxy", "the iamproxy to test")
	flag.StringVar(&o.page, "write", "", "the `PAGE` to write the results into, if no trial failed")
	flag.StringVar(&o.only, "only", "", "a `REGEXP` of the faults to try")
	flag.Uint64Var(&o.seed, "seed", 1, "the seed of random choices")
	flag.DurationVar(&o.soak, "soak", 0, "let clients work for this time, without a fault")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	if o.soak > 0 {
		return soak(ctx, o, out)
	}
	pattern, err := regexp.Compile(o.only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if o.only != "" && o.page != "" {
		return errors.New("-write cannot be combined with -only")
	}
	trials, err := tryAll(ctx, o, pattern, out)
	if err != nil {
		return err
	}
	for _, g := range groups {
		if table := rows(trials, g); len(table) > 1 {
			fmt.Fprintf(out, "\n%s", mdtable.Table(table))
		}
	}
	fmt.Fprintf(out, "\n%s\n%s\n", details(trials), totals(trials, time.Now()))
	if err := verdict(trials); err != nil || o.page == "" {
		return err
	}
	return writePage(o.page, trials, time.Now())
}

// tryAll runs the trials of faults whose names match the pattern. The faults of clocks have
// credentials that live longer.
func tryAll(ctx context.Context, o options, pattern *regexp.Regexp, out io.Writer) (all []trial, err error) {
	for _, at := range []struct {
		faults []fault
		life   time.Duration // of credentials
	}{
		{faults(), keyLife},
		{clockFaults(), time.Hour},
	} {
		wanted := slices.DeleteFunc(at.faults, func(f fault) bool { return !pattern.MatchString(f.name) })
		if len(wanted) == 0 {
			continue
		}
		trials, err := tryAt(ctx, wanted, o.binary, at.life, o.seed, out)
		if err != nil {
			return nil, err
		}
		all = append(all, trials...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("-only %s matches no fault", o.only)
	}
	return all, nil
}

func tryAt(ctx context.Context, faults []fault, binary string, life time.Duration, seed uint64, out io.Writer) (trials []trial, err error) {
	var p place
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.open(ctx, binary, seed, life); err != nil {
		return nil, err
	}
	l := &load{place: &p, kinds: kinds, seed: seed}
	before, err := p.warmUp(ctx, l)
	if err != nil {
		return nil, err
	}
	for _, f := range faults {
		t := p.try(ctx, f, before, l)
		if ctx.Err() != nil {
			return nil, errors.New("interrupted")
		}
		t.say(out)
		trials = append(trials, t)
	}
	return trials, nil
}

// warmUp lets clients work until iamproxy's memory is that of a used process at rest.
func (p *place) warmUp(ctx context.Context, l *load) (before holdings, err error) {
	for range 2 {
		l.start(ctx)
		working, cancel := context.WithTimeout(ctx, giveUp)
		err := l.allWork(working, time.Now())
		cancel()
		l.halt()
		l.take()
		if err != nil {
			return before, err
		}
		if _, err := l.ledger.settle(ctx, &p.cluster); err != nil {
			return before, err
		}
		if before, err = p.quiet(ctx); err != nil {
			return before, err
		}
	}
	return before, nil
}

// quiet returns the holdings once they are stable.
func (p *place) quiet(ctx context.Context) (holdings, error) {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	last, same := holdings{}, 0
	for {
		now, err := p.proxy.holdings(ctx)
		if err != nil {
			return now, err
		}
		memory := now.memory
		now.memory = 0
		if now == last {
			same++
		} else {
			last, same = now, 0
		}
		if same == 8 {
			now.memory = memory
			return now, nil
		}
		if !sleep(ctx, 500*time.Millisecond) {
			return now, errors.New("the resources of iamproxy are not stable")
		}
	}
}
