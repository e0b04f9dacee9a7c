//go:build linux

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// rows are the rows of the table in docs/reliability.md.
func rows(trials []trial) [][]string {
	lines := [][]string{{"fault", "clients without a session", "clients with one", "back after", "entries: acknowledged, failed", "left behind", "memory"}}
	for _, t := range trials {
		lines = append(lines, []string{
			t.fault.name, t.newcomers(), t.inSession(), round(t.back),
			fmt.Sprintf("%d, %d", t.account.acknowledged, t.account.unknown+t.account.stored),
			t.leftBehind(), fmt.Sprintf("%+.1f MiB", float64(t.after.memory-t.before.memory)/1024),
		})
	}
	return lines
}

// newcomers is what clients without a session saw.
func (t *trial) newcomers() string {
	return summary(t.during, observation.atLogin, func(o observation) time.Duration { return o.waited })
}

// inSession is what clients with a session saw.
func (t *trial) inSession() string {
	return summary(t.during, func(o observation) bool { return !o.atLogin() }, func(o observation) time.Duration { return o.stalled })
}

// worthSaying is the least wait that is reported.
const worthSaying = time.Second

// summary counts the errors, and has the longest wait.
func summary(all []observation, which func(observation) bool, wait func(observation) time.Duration) string {
	told := make(map[string]int)
	longest := time.Duration(0)
	for _, o := range all {
		if o.err != nil && which(o) {
			told[o.told()]++
		}
		longest = max(longest, wait(o))
	}
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(told)) {
		parts = append(parts, fmt.Sprintf("%s × %d", what, told[what]))
	}
	if len(parts) == 0 {
		parts = []string{"no error"}
	}
	if longest >= worthSaying {
		parts = append(parts, "waited up to "+round(longest))
	}
	return strings.Join(parts, ", ")
}

func (t *trial) leftBehind() string {
	var parts []string
	for _, of := range []struct {
		what           string
		before, after_ int
	}{
		{"sessions", t.before.sessions, t.after.sessions},
		{"descriptors", t.before.sockets, t.after.sockets},
		{"goroutines", t.before.goroutines, t.after.goroutines},
		{"server processes", t.before.backends, t.after.backends},
	} {
		if of.after_ > of.before {
			parts = append(parts, fmt.Sprintf("%d %s", of.after_-of.before, of.what))
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// round rounds a duration for display.
func round(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return "at once"
	case d < time.Second:
		return d.Round(10 * time.Millisecond).String()
	default:
		return d.Round(100 * time.Millisecond).String()
	}
}

// say returns the line of progress.
func (t *trial) say(out io.Writer) {
	fmt.Fprintf(out, "%s: without a session: %s; with one: %s; back after %s, all kinds of work after %s; left behind: %s (%v)\n",
		t.fault.name, t.newcomers(), t.inSession(), round(t.back), round(t.allBack), t.leftBehind(), t.took.Round(time.Second))
	if t.err != nil {
		fmt.Fprintf(out, "  NOT AS PROMISED: %s\n", strings.ReplaceAll(t.err.Error(), "\n", "; "))
	}
}

// verdict returns an error if any trial failed.
func verdict(trials []trial) error {
	var failed []error
	for _, t := range trials {
		if t.err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", t.fault.name, t.err))
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d faults are not as promised, such as %w", len(failed), len(trials), failed[0])
}
