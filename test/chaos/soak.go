//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/tools/mdtable"
)

const (
	// rotation is the life of credentials in a soak.
	rotation = time.Minute
	// soakRound is the time between comparisons of the ledger.
	soakRound = 30 * time.Second
	// sampleEvery is the interval of samples.
	sampleEvery = 2 * time.Second
	// parts is the number of parts that are compared. The first one warms up.
	parts = 6
	// growth is the allowed growth from the second to the last part, in percent.
	growth = 10
)

// soakPlace is the place in docs/reliability.md for the results.
const soakPlace = "make soak writes the results"

// lasting are sessions that last for the whole soak.
var lasting = []kind{
	{name: "hours of queries", count: 2, work: (*client).lastingQueries, lasts: true},
	{name: "hours of listening", count: 2, work: (*client).lastingListen, lasts: true},
}

// sample holds the resources of iamproxy at a time.
type sample struct {
	at time.Time
	holdings
}

// watch holds the observations of a soak.
type watch struct {
	began    time.Time
	samples  []sample
	works    map[string]int // operations, by kind
	failures []error
	account  account
}

// soak runs all kinds of clients for a long time, with hostile ones beside them, and checks
// whether anything grows, fails or is lost.
func soak(ctx context.Context, o options, out io.Writer) (err error) {
	var p place
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.open(ctx, o.binary, o.seed, rotation); err != nil {
		return err
	}
	w := &watch{works: make(map[string]int)}
	l := &load{place: &p, kinds: slices.Concat(kinds, hostile), seed: o.seed}
	before, err := p.warmUp(ctx, l)
	if err != nil {
		return err
	}
	long := &load{place: &p, kinds: lasting, seed: o.seed}
	w.began = time.Now()
	long.start(ctx)
	for time.Since(w.began) < o.soak && ctx.Err() == nil {
		if err := w.round(ctx, &p, l); err != nil {
			w.failures = append(w.failures, err)
		}
		fmt.Fprintln(out, w.line())
	}
	long.halt()
	w.note(long.take())
	after, err := p.settled(ctx, before)
	w.failures = append(w.failures, err)
	fmt.Fprintf(out, "\n%s\n%s\nat rest before: %+v\nat rest after: %+v\n", w.table(), w.summary(p.aws.Requests(fakeaws.Container)), before, after)
	if err := w.verdict(); err != nil || o.page == "" {
		return err
	}
	return mdtable.Replace(o.page, soakPlace, w.summary(p.aws.Requests(fakeaws.Container)))
}

// round runs the clients for a while, and compares the ledger.
func (w *watch) round(ctx context.Context, p *place, l *load) error {
	l.start(ctx)
	for began := time.Now(); time.Since(began) < soakRound; {
		if !sleep(ctx, sampleEvery) {
			break
		}
		now, err := p.proxy.holdings(ctx)
		if err != nil {
			return err
		}
		w.samples = append(w.samples, sample{time.Now(), now})
	}
	l.halt()
	w.note(l.take())
	p.cluster.ResetVerdicts()
	a, err := l.ledger.settle(ctx, &p.cluster)
	w.account.acknowledged += a.acknowledged
	w.account.unknown += a.unknown + a.stored
	return errors.Join(err, p.proxy.trouble())
}

func (w *watch) note(all []observation) {
	for _, o := range all {
		w.works[o.kind]++
		if o.err != nil {
			w.failures = append(w.failures, fmt.Errorf("%s: %w", o.kind, o.err))
		}
	}
}

func (w *watch) line() string {
	last := sample{}
	if len(w.samples) > 0 {
		last = w.samples[len(w.samples)-1]
	}
	return fmt.Sprintf("%v: %d operations, %d failures; %d sessions, %d goroutines, %d descriptors, %.1f MiB",
		time.Since(w.began).Round(time.Second), w.total(), len(w.failed()), last.sessions, last.goroutines, last.sockets, float64(last.memory)/1024)
}

func (w *watch) total() (n int) {
	for _, of := range w.works {
		n += of
	}
	return n
}

func (w *watch) failed() (all []error) {
	return slices.DeleteFunc(slices.Clone(w.failures), func(err error) bool { return err == nil })
}

// part returns the samples of one of the parts, from 0.
func (w *watch) part(n int) []sample {
	size := len(w.samples) / parts
	return w.samples[n*size : (n+1)*size]
}

func median(samples []sample, of func(sample) int) int {
	values := make([]int, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	if len(values) == 0 {
		return 0
	}
	return values[len(values)/2]
}

func memoryOf(s sample) int     { return s.memory }
func goroutinesOf(s sample) int { return s.goroutines }
func socketsOf(s sample) int    { return s.sockets }

// table returns the medians of each part.
func (w *watch) table() string {
	lines := [][]string{{"from", "memory", "goroutines", "file descriptors"}}
	for n := range parts {
		part := w.part(n)
		if len(part) == 0 {
			continue
		}
		lines = append(lines, []string{
			part[0].at.Sub(w.began).Round(time.Second).String(), megabytes(part),
			fmt.Sprint(median(part, goroutinesOf)), fmt.Sprint(median(part, socketsOf)),
		})
	}
	return mdtable.Table(lines)
}

func megabytes(part []sample) string {
	return fmt.Sprintf("%.1f MiB", float64(median(part, memoryOf))/1024)
}

// summary returns the totals, and the medians of the parts that are compared.
func (w *watch) summary(fetched int) string {
	early, late := w.part(1), w.part(parts-1)
	return fmt.Sprintf("In %.0f minutes, clients ran %d operations, and %d failed. The database has all %d writes that it acknowledged. iamproxy fetched credentials %d times.\n"+
		"Memory was %s in the second sixth of the time and %s in the last. Goroutines: %d and %d. File descriptors: %d and %d.\n",
		time.Since(w.began).Minutes(), w.total(), len(w.failed()), w.account.acknowledged, fetched,
		megabytes(early), megabytes(late), median(early, goroutinesOf), median(late, goroutinesOf), median(early, socketsOf), median(late, socketsOf))
}

// verdict returns an error if anything failed, or grew.
func (w *watch) verdict() error {
	if failed := w.failed(); len(failed) > 0 {
		return fmt.Errorf("%d failures, for example %w", len(failed), failed[0])
	}
	for _, of := range []struct {
		what  string
		value func(sample) int
		slack int // its normal variation
	}{{"memory", memoryOf, 2 << 10}, {"goroutines", goroutinesOf, 15}, {"descriptors", socketsOf, 15}} {
		early, late := median(w.part(1), of.value), median(w.part(parts-1), of.value)
		if late*100 > early*(100+growth)+of.slack*100 {
			return fmt.Errorf("%s grew from %d to %d", of.what, early, late)
		}
	}
	return nil
}

// lastingQueries runs a query now and then, in one session.
func (c *client) lastingQueries(ctx context.Context) error {
	return c.with(ctx, func(conn *pgx.Conn) error {
		for sleep(ctx, time.Duration(c.random.IntN(2000))*time.Millisecond) {
			var n int
			if err := conn.QueryRow(context.WithoutCancel(ctx), "select 41 + 1").Scan(&n); err != nil || n != 42 {
				return errors.Join(wrongData("a lasting session got a wrong answer"), err)
			}
		}
		return nil
	})
}

// lastingListen receives its own notifications, a while later.
func (c *client) lastingListen(ctx context.Context) error {
	return c.with(ctx, func(conn *pgx.Conn) error {
		channel := fmt.Sprintf("lasting%d", c.random.Uint32())
		if _, err := conn.Exec(ctx, "listen "+channel); err != nil {
			return err
		}
		for sleep(ctx, 10*time.Second) {
			asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), opLimit)
			_, err := conn.Exec(asking, "notify "+channel)
			if err == nil {
				_, err = conn.WaitForNotification(asking)
			}
			cancel()
			if err != nil {
				return err
			}
		}
		return nil
	})
}
