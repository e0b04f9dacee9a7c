//go:build linux

package main

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
)

// measurement is run with each target.
type measurement struct {
	name    string
	figures []string // that it adds to the results
	rounds  int      // at most; 0: as many as requested
	run     func(ctx context.Context, b *bench, targets []target) error
}

// measurements returns all measurements, in order.
func measurements() []measurement {
	selects := []measurement{
		{name: "select-1", figures: []string{"select-1", "cpu-1"}, run: selects(1)},
		{name: "select-8", figures: []string{"select-8", "cpu-8"}, run: selects(8)},
		{name: "select-32", figures: []string{"select-32", "cpu-32"}, run: selects(32)},
	}
	copies := []measurement{
		{name: "copy-out", figures: []string{"copy-out", "copy-out-cpu"}, run: copyOut},
		{name: "copy-in", figures: []string{"copy-in", "copy-in-cpu"}, run: copyIn},
	}
	pooled := measurement{name: "connect-pool", figures: []string{"connect-pool", "connect-pool-cpu"}, run: pooledConnects}
	start := measurement{name: "start", figures: []string{"start-cpu", "first-session"}, run: starts}
	all := slices.Concat(selects, copies, []measurement{
		{name: "login", figures: []string{"login"}, run: login},
		{name: "logins", figures: []string{"logins", "login-cpu", "login-proxy-cpu"}, run: logins},
		pooled,
		start,
		{name: "wait", figures: []string{"wait-cpu"}, rounds: 2, run: waits},
		{name: "rest", figures: []string{"rest", "rest-private", "rest-login", "rest-login-private", "binary"}, rounds: 2, run: rest},
		{name: "idle", figures: []string{"idle", "idle-5s"}, rounds: 2, run: idle},
	})
	for _, m := range selects {
		all = append(all, m.under(neighbor))
	}
	for _, m := range slices.Concat(selects, copies, []measurement{pooled, start}) {
		all = append(all, m.under(quarter))
	}
	for _, n := range idleSessions {
		m := measurement{name: "beside-" + strconv.Itoa(n), rounds: 1, run: beside(n)}
		for _, aspect := range aspects {
			m.figures = append(m.figures, besideName(aspect.name, n))
		}
		if n == mostSessions {
			m.figures = append(m.figures, "session")
		}
		all = append(all, m)
	}
	return all
}

// idleSessions are the numbers of idle sessions beside active clients, and mostSessions the
// largest.
var idleSessions = []int{10, 100, 1000, mostSessions}

const mostSessions = 5000

// condition is a burden on the machine or on the proxies, for a measurement of proxies.
type condition struct {
	name   string
	rounds int // at most
	begin  func(*bench) (end func() error, err error)
}

var (
	// neighbor is another process that takes half of each core.
	neighbor = condition{"neighbor", 3, func(*bench) (func() error, error) {
		stop := startNeighbor()
		return func() error { stop(); return nil }, nil
	}}
	// quarter gives each proxy a quarter of a core, as a small task of AWS Fargate has.
	quarter = condition{"quarter", 2, func(b *bench) (func() error, error) {
		limit, err := newCgroup()
		if err != nil {
			return nil, cannotMeasure{err}
		}
		b.limit = limit
		return func() error { b.limit = nil; return limit.close() }, nil
	}}
)

// cannotMeasure is an error of the machine, which lacks something that a measurement needs.
// The run goes on without its rows.
type cannotMeasure struct{ error }

// under returns the measurement in a condition. Its name and figures end with that of the
// condition.
func (m measurement) under(c condition) measurement {
	varied := measurement{name: m.name + "-" + c.name, rounds: c.rounds}
	for _, figure := range m.figures {
		varied.figures = append(varied.figures, figure+"-"+c.name)
	}
	varied.run = func(ctx context.Context, b *bench, targets []target) error {
		end, err := c.begin(b)
		if err != nil {
			return err
		}
		b.suffix = "-" + c.name
		err = m.run(ctx, b, proxied(targets))
		b.suffix = ""
		return errors.Join(err, end())
	}
	return varied
}

// choose returns the measurements with a name or figure that matches the pattern.
func choose(pattern *regexp.Regexp) []measurement {
	var chosen []measurement
	for _, m := range measurements() {
		if pattern.MatchString(m.name) || slices.ContainsFunc(m.figures, pattern.MatchString) {
			chosen = append(chosen, m)
		}
	}
	return chosen
}

func names() []string {
	var names []string
	for _, m := range measurements() {
		names = append(names, m.name)
	}
	return names
}

// size is the amount of work.
type size struct {
	seconds  int // of one run of pgbench
	copyRows int // of 1.5 KB
	turns    int // of runs that only connect
	logins   int // of one such run
	starts   int // of processes
	idle     int // sessions
	settle   int // seconds until memory is stable, at most
	watch    int // seconds to observe idle sessions, and active clients beside them
}

var (
	fullSize  = size{seconds: 4, copyRows: 680_000, turns: 12, logins: 25, starts: 10, idle: 1000, settle: 60, watch: 5}
	quickSize = size{seconds: 1, copyRows: 140_000, turns: 5, logins: 20, starts: 3, idle: 200, settle: 15, watch: 2}
)
