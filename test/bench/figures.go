//go:build linux

package main

// figure is a measured quantity.
type figure struct {
	name, title string
	part        part
	digits      int  // after the point
	compares    bool // is a comparison itself, without ratios
	goals       []goal
}

// part is the table of the page that has a figure. The output of a run has all figures.
type part int

const (
	noTable part = iota
	adds
	needs
)

// goal is a goal for iamproxy.
type goal struct {
	of    string // the target to compare with; empty: none, the figure itself counts
	most  bool   // the limit is an upper one
	limit float64
	unit  string // of the limit, if it is not a ratio
}

func atLeast(limit float64, of string) goal { return goal{of: of, limit: limit} }

func atMost(limit float64, unit string) goal { return goal{limit: limit, most: true, unit: unit} }

func atMostOfPgbouncer(limit float64) goal {
	return goal{of: pgbouncerTarget, limit: limit, most: true}
}

// figures lists all figures, in the order of the tables.
var figures = []figure{
	{name: "select-1", part: adds, title: "Queries per second, 1 client", goals: []goal{atLeast(1, pgbouncerTarget)}},
	{name: "select-8", part: adds, title: "Queries per second, 8 clients", goals: []goal{atLeast(1.2, pgbouncerTarget), atLeast(0.85, directTarget)}},
	{name: "select-32", part: adds, title: "Queries per second, 32 clients", goals: []goal{atLeast(1.2, pgbouncerTarget), atLeast(0.85, directTarget)}},
	{name: "copy-out", part: adds, title: "COPY TO, MB/s", goals: []goal{atLeast(1.3, pgbouncerTarget), atLeast(0.95, directTarget)}},
	{name: "copy-in", part: adds, title: "COPY FROM, MB/s", goals: []goal{atLeast(1.3, pgbouncerTarget), atLeast(0.95, directTarget)}},
	{name: "connect", part: adds, title: "Time added to a login, ms", digits: 2, compares: true, goals: []goal{atMost(0.3, "ms")}},
	{name: "connect-pool", part: adds, title: "Queries per second, 8 clients, a login for each query, `--pool 8`", goals: []goal{atLeast(1, pgbouncerTarget)}},
	{name: "cpu-1", part: needs, title: "CPU time per query, 1 client, µs", goals: []goal{atMostOfPgbouncer(1)}},
	{name: "cpu-8", part: needs, title: "CPU time per query, 8 clients, µs", goals: []goal{atMostOfPgbouncer(1)}},
	{name: "cpu-32", part: needs, title: "CPU time per query, 32 clients, µs", goals: []goal{atMostOfPgbouncer(1)}},
	{name: "copy-out-cpu", part: needs, title: "COPY TO, MB/s per vCPU"},
	{name: "copy-in-cpu", part: needs, title: "COPY FROM, MB/s per vCPU"},
	{name: "rest", part: needs, title: "Memory after the start, MiB", digits: 1, goals: []goal{atMost(20, "MiB")}},
	{name: "rest-login", part: needs, title: "Memory after the first login, MiB", digits: 1, goals: []goal{atMost(20, "MiB")}},
	{name: "idle", part: needs, title: "Memory per idle session, KiB", digits: 1, goals: []goal{atMost(20, "KiB"), atMostOfPgbouncer(0.5)}},
	{name: "idle-5s", title: "Memory per session that became idle 5 s ago, KiB", digits: 1},
	{name: "binary", part: needs, title: "Size of the program, MB"},
	{name: "crowd", title: "Throughput of 100 clients beside 5,000 idle sessions, relative to 100 clients alone", digits: 2, compares: true, goals: []goal{{limit: 0.95}}},
}
