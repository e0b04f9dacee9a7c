//go:build linux

package main

import (
	"fmt"
	"strconv"
	"strings"
)

// figure is a measured quantity.
type figure struct {
	name, title string
	part        part
	digits      int  // after the point
	lower       bool // a lower value is better
	goals       []goal
}

// part is the table of the page that has a figure. The output of a run has all figures.
type part int

const (
	noTable part = iota
	adds
	needs
	scarce
)

// goal is a goal for iamproxy.
type goal struct {
	text  string
	value func(results) (value float64, known bool) // to compare with the limit
	most  bool                                      // the limit is an upper one
	limit float64
}

// result returns the value, and whether the goal is met.
func (g goal) result(r results) (value float64, met, known bool) {
	value, known = g.value(r)
	if g.most {
		return value, value <= g.limit, known
	}
	return value, value >= g.limit, known
}

// with adds goals.
func (f figure) with(goals ...func(figure) goal) figure {
	for _, g := range goals {
		f.goals = append(f.goals, g(f))
	}
	return f
}

func atMost(limit float64, unit string) func(figure) goal {
	return func(f figure) goal {
		return goal{text: fmt.Sprintf("≤ %v %s", limit, unit), most: true, limit: limit,
			value: func(r results) (float64, bool) { return known(r.of(f.name, iamproxyTarget)) }}
	}
}

// atLeastOf limits the ratio to another target.
func atLeastOf(limit float64, target string) func(figure) goal {
	return func(f figure) goal {
		return goal{text: fmt.Sprintf("≥ %v of %s", limit, target), limit: limit,
			value: func(r results) (float64, bool) { return known(r.ratio(f.name, iamproxyTarget, target)) }}
	}
}

func atMostOf(limit float64, target string) func(figure) goal {
	return func(f figure) goal {
		g := atLeastOf(limit, target)(f)
		g.text, g.most = fmt.Sprintf("≤ %v of %s", limit, target), true
		return g
	}
}

// atMostMore limits the difference from another target.
func atMostMore(limit float64, unit, target string) func(figure) goal {
	return func(f figure) goal {
		return goal{text: fmt.Sprintf("≤ %v %s more than %s", limit, unit, target), most: true, limit: limit,
			value: func(r results) (float64, bool) { return known(r.difference(f.name, iamproxyTarget, target)) }}
	}
}

// atMostLoss limits what a condition takes from iamproxy, relative to what it takes from
// PgBouncer. The figure without the condition has the same name without its last part.
func atMostLoss(limit float64) func(figure) goal {
	return func(f figure) goal {
		without := f.name[:strings.LastIndex(f.name, "-")]
		return goal{text: fmt.Sprintf("≤ %v of %s's loss", limit, pgbouncerTarget), most: true, limit: limit,
			value: func(r results) (float64, bool) {
				before, first := known(r.ratio(without, iamproxyTarget, pgbouncerTarget))
				after, second := known(r.ratio(f.name, iamproxyTarget, pgbouncerTarget))
				if f.lower {
					return after / before, first && second
				}
				return before / after, first && second
			}}
	}
}

func known(s summary) (float64, bool) { return s.median, s.n > 0 }

// The goals of select rows, without and with a busy neighbor.
var (
	fasterThanPgbouncer  = atLeastOf(1.1, pgbouncerTarget)
	cheaperThanPgbouncer = atMostOf(0.95, pgbouncerTarget)
)

const (
	queries = "Queries per second, "
	cpuTime = "CPU time per query, "
)

// figures lists all figures, in the order of the tables.
var figures = makeFigures()

func makeFigures() []figure {
	var all []figure
	add := func(f ...figure) { all = append(all, f...) }
	clients := []struct{ n, text string }{{"1", "1 client"}, {"8", "8 clients"}, {"32", "32 clients"}}
	for _, c := range clients {
		add(figure{name: "select-" + c.n, part: adds, title: queries + c.text}.with(fasterThanPgbouncer))
	}
	add(
		figure{name: "copy-out", part: adds, title: "COPY TO, MB/s"}.with(atLeastOf(1, directTarget)),
		figure{name: "copy-in", part: adds, title: "COPY FROM, MB/s"}.with(atLeastOf(1, directTarget)),
		figure{name: "login", part: adds, title: "A login, ms", digits: 2, lower: true}.with(atMostMore(0.3, "ms", directTarget)),
		figure{name: "logins", part: adds, title: "Logins per second, 8 clients"},
		figure{name: "connect-pool", part: adds, title: "Connections per second, 8 clients, `--pool 8`"}.with(atLeastOf(1, pgbouncerTarget)),
		figure{name: "first-session", part: adds, title: "Start of the proxy to the first query's result, ms", lower: true}.with(atMost(40, "ms")),
	)
	for _, c := range clients {
		add(figure{name: "cpu-" + c.n, part: needs, title: cpuTime + c.text + ", µs", lower: true}.with(cheaperThanPgbouncer))
	}
	add(
		figure{name: "copy-out-cpu", part: needs, title: "COPY TO, MB/s per vCPU"},
		figure{name: "copy-in-cpu", part: needs, title: "COPY FROM, MB/s per vCPU"},
		figure{name: "login-cpu", title: "CPU time of a login, client and proxy, ms", digits: 2, lower: true},
		figure{name: "login-proxy-cpu", title: "CPU time of a login in the proxy, ms", digits: 2, lower: true},
		figure{name: "connect-pool-cpu", title: "CPU time of a connection with `--pool 8`, µs", lower: true},
		figure{name: "start-cpu", part: needs, title: "CPU time of the start, ms", digits: 1, lower: true}.with(atMost(15, "ms")),
		figure{name: "wait-cpu", part: needs, title: "CPU time of `iamproxy wait`, ms", digits: 1, lower: true}.with(atMost(10, "ms")),
		figure{name: "rest", title: "Memory after the start, MiB", digits: 1, lower: true}.with(atMost(16, "MiB")),
		figure{name: "rest-private", title: "Private memory after the start, MiB", digits: 1, lower: true}.with(atMost(6, "MiB")),
		figure{name: "rest-login", part: needs, title: "Memory after the first login, MiB", digits: 1, lower: true},
		figure{name: "rest-login-private", part: needs, title: "Private memory after the first login, MiB", digits: 1, lower: true},
		figure{name: "session", part: needs, title: "Memory per idle session, 10 to 5,000 sessions, KiB", digits: 1, lower: true}.with(atMost(14, "KiB")),
		figure{name: "idle", title: "Memory per session that has received 1 MiB, KiB", digits: 1, lower: true},
		figure{name: "idle-5s", title: "Memory per session that became idle 5 s ago, KiB", digits: 1, lower: true},
		figure{name: "binary", part: needs, title: "Size of the program, MB", lower: true},
	)
	for _, c := range clients {
		add(
			figure{name: "select-" + c.n + "-neighbor", part: short(c.n), title: queries + c.text + ", busy neighbor"}.with(fasterThanPgbouncer),
			figure{name: "cpu-" + c.n + "-neighbor", title: cpuTime + c.text + ", µs, busy neighbor", lower: true}.with(cheaperThanPgbouncer),
		)
	}
	for _, c := range clients {
		add(
			figure{name: "select-" + c.n + "-quarter", part: short(c.n), title: queries + c.text + ", 0.25 vCPU"}.with(atMostLoss(1.1)),
			figure{name: "cpu-" + c.n + "-quarter", title: cpuTime + c.text + ", µs, 0.25 vCPU", lower: true},
		)
	}
	add(
		figure{name: "copy-out-quarter", part: scarce, title: "COPY TO, MB/s, 0.25 vCPU"}.with(atMostLoss(1.1)),
		figure{name: "copy-out-cpu-quarter", title: "COPY TO, MB/s per vCPU, 0.25 vCPU"},
		figure{name: "copy-in-quarter", title: "COPY FROM, MB/s, 0.25 vCPU"}.with(atMostLoss(1.1)),
		figure{name: "copy-in-cpu-quarter", title: "COPY FROM, MB/s per vCPU, 0.25 vCPU"},
		figure{name: "connect-pool-quarter", part: scarce, title: "Connections per second, 8 clients, `--pool 8`, 0.25 vCPU"}.with(atMostLoss(1.1)),
		figure{name: "connect-pool-cpu-quarter", title: "CPU time of a connection with `--pool 8`, µs, 0.25 vCPU", lower: true},
		figure{name: "first-session-quarter", part: scarce, title: "Start of the proxy to the first query's result, ms, 0.25 vCPU", lower: true}.with(atMostLoss(1.1)),
		figure{name: "start-cpu-quarter", title: "CPU time of the start, ms, 0.25 vCPU", digits: 1, lower: true},
	)
	for _, n := range idleSessions {
		for _, a := range aspects {
			f := figure{name: besideName(a.name, n), title: a.title + ", " + thousands(float64(n), 0) + " idle sessions", digits: a.digits, lower: true}
			if a.name == "p99" && n >= 1000 {
				f = f.with(atMostOf(1.2, pgbouncerTarget), atMostOf(2, directTarget))
			}
			add(f)
		}
	}
	return all
}

// short is the part of the page for scarce CPU time, which has 8 clients only.
func short(clients string) part {
	if clients == "8" {
		return scarce
	}
	return noTable
}

// aspects are measured beside each number of idle sessions.
var aspects = []struct {
	name, title string
	digits      int
	plotOnly    bool // on the page
}{
	{"memory", "Memory, MiB", 1, false},
	{"idle-cpu", "CPU time per minute, all sessions idle, s", 3, true},
	{"p50", "Median latency, ms", 2, false},
	{"p99", "99th percentile latency, ms", 2, false},
	{"p999", "99.9th percentile latency, ms", 2, false},
}

// besideName is the name of the figure of an aspect beside idle sessions.
func besideName(aspect string, sessions int) string { return aspect + "-" + strconv.Itoa(sessions) }
