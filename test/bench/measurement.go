//go:build linux

package main

import (
	"context"
	"regexp"
	"slices"
)

// measurement is run with each target.
type measurement struct {
	name    string
	figures []string // that it adds to the results
	rounds  int      // at most; 0: as many as requested
	pool    bool     // requires iamproxy's --pool
	run     func(ctx context.Context, b *bench, targets []target) error
}

// measurements returns all measurements, in order.
func measurements() []measurement {
	return []measurement{
		{name: "select-1", figures: []string{"select-1", "cpu-1"}, run: selects(1)},
		{name: "select-8", figures: []string{"select-8", "cpu-8"}, run: selects(8)},
		{name: "select-32", figures: []string{"select-32", "cpu-32"}, run: selects(32)},
		{name: "copy-out", figures: []string{"copy-out", "copy-out-cpu"}, run: copyOut},
		{name: "copy-in", figures: []string{"copy-in", "copy-in-cpu"}, run: copyIn},
		{name: "connect", figures: []string{"connect"}, run: connects},
		{name: "connect-pool", figures: []string{"connect-pool"}, pool: true, run: pooledConnects},
		{name: "rest", figures: []string{"rest", "rest-login", "binary"}, run: rest},
		{name: "idle", figures: []string{"idle", "idle-5s"}, run: idle},
		{name: "crowd", figures: []string{"crowd"}, rounds: 1, run: crowd},
		{name: "scale", figures: []string{"crowd"}, rounds: 1, run: scale},
	}
}

// choose returns the measurements with a name or figure that matches the pattern. Scale has
// the figures of crowd, too, which takes minutes.
func choose(pattern *regexp.Regexp) []measurement {
	var chosen []measurement
	for _, m := range measurements() {
		if pattern.MatchString(m.name) || m.name != "scale" && slices.ContainsFunc(m.figures, pattern.MatchString) {
			chosen = append(chosen, m)
		}
	}
	if i := len(chosen) - 1; i > 0 && chosen[i].name == "scale" && chosen[i-1].name == "crowd" {
		chosen = slices.Delete(chosen, i-1, i)
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
	seconds  int   // of one run of pgbench
	copyRows int   // of 1.5 KB
	pairs    int   // of runs that only connect
	connects int   // of one such run
	idle     int   // sessions
	settle   int   // seconds until memory is stable, at most
	crowd    int   // sessions
	scale    []int // the numbers of sessions, ascending
	watch    int   // seconds to observe each number of sessions
}

var (
	fullSize = size{seconds: 5, copyRows: 680_000, pairs: 30, connects: 25, idle: 1000, settle: 180,
		crowd: 5000, scale: []int{10, 100, 1000, 5000}, watch: 6}
	quickSize = size{seconds: 1, copyRows: 140_000, pairs: 8, connects: 20, idle: 200, settle: 15,
		crowd: 300, scale: []int{10, 100, 300}, watch: 2}
)
