//go:build linux

package main

// figure is a row of the table.
type figure struct {
	name, what string
	digits     int  // after the point
	compares   bool // is a comparison itself, without ratios
	goals      []goal
}

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

// figures are all figures, in the order of the table.
var figures = []figure{
	{name: "select-1", what: "1 client, transactions/s", goals: []goal{atLeast(1, pgbouncerTarget)}},
	{name: "select-8", what: "8 clients, transactions/s", goals: []goal{atLeast(1.2, pgbouncerTarget), atLeast(0.85, directTarget)}},
	{name: "select-32", what: "32 clients, transactions/s", goals: []goal{atLeast(1.2, pgbouncerTarget), atLeast(0.85, directTarget)}},
	{name: "cpu-1", what: "CPU s per million messages, 1 client", digits: 2, goals: []goal{atMostOfPgbouncer(1)}},
	{name: "cpu-8", what: "the same, 8 clients", digits: 2, goals: []goal{atMostOfPgbouncer(1)}},
	{name: "cpu-32", what: "the same, 32 clients", digits: 2, goals: []goal{atMostOfPgbouncer(1)}},
	{name: "copy-out", what: "COPY TO, MB/s", goals: []goal{atLeast(1.3, pgbouncerTarget), atLeast(0.95, directTarget)}},
	{name: "copy-in", what: "COPY FROM, MB/s", goals: []goal{atLeast(1.3, pgbouncerTarget), atLeast(0.95, directTarget)}},
	{name: "connect", what: "ms that a login takes longer than direct", digits: 2, compares: true, goals: []goal{atMost(0.3, "ms")}},
	{name: "connect-pool", what: "8 clients with a pool of 8 that connect each time, transactions/s", goals: []goal{atLeast(1, pgbouncerTarget)}},
	{name: "rest", what: "MiB, just started", digits: 1, goals: []goal{atMost(20, "MiB")}},
	{name: "rest-login", what: "MiB, after one login", digits: 1, goals: []goal{atMost(20, "MiB")}},
	{name: "idle", what: "KiB for each idle session", digits: 1, goals: []goal{atMost(20, "KiB"), atMostOfPgbouncer(0.5)}},
	{name: "idle-5s", what: "the same, 5 s after it was busy", digits: 1},
	{name: "crowd", what: "throughput of 100 clients among 5,000 idle ones, of that alone", digits: 2, compares: true, goals: []goal{{limit: 0.95}}},
}
