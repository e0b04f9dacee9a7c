//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/tools/mdtable"
)

// group is a section of docs/reliability.md, which has the table of its faults. The text is
// the name of the writer in the comment before the table.
type group string

const (
	ofDatabase    group = "make chaos writes the faults of the database"
	ofNetwork     group = "make chaos writes the faults of the network"
	ofDNS         group = "make chaos writes the faults of DNS"
	ofCredentials group = "make chaos writes the faults of the credentials"
	ofClock       group = "make chaos writes the faults of the clock"
	ofHost        group = "make chaos writes the faults of the host"
	// ofRun is the section with the totals.
	ofRun group = "make chaos writes the totals"
)

// groups lists the groups with faults.
var groups = []group{ofDatabase, ofNetwork, ofDNS, ofCredentials, ofClock, ofHost}

// writePage replaces the tables of the page.
func writePage(file string, trials []trial, day time.Time) error {
	errs := []error{mdtable.Replace(file, string(ofRun), totals(trials, day))}
	for _, g := range groups {
		errs = append(errs, mdtable.Replace(file, string(g), mdtable.Table(rows(trials, g))))
	}
	return errors.Join(errs...)
}

// rows returns the rows of the table of a group. It has a column for open sessions only if one
// was affected.
func rows(trials []trial, g group) [][]string {
	lines := [][]string{{"Fault", "Clients that connect", "New sessions after", "Open sessions"}}
	affected := false
	for _, t := range merged(trials, g) {
		affected = affected || t.inSession() != noError
		lines = append(lines, []string{t.fault.row, t.newcomers(), round(t.back), t.inSession()})
	}
	if !affected {
		for i, line := range lines {
			lines[i] = line[:len(line)-1]
		}
	}
	return lines
}

// merged returns the trials of a group. Trials with the same row are one, with the
// observations of all and the longest time until service was back.
func merged(trials []trial, g group) (all []trial) {
	for _, t := range trials {
		if t.fault.group != g {
			continue
		}
		t.fault.row = cmp.Or(t.fault.row, t.fault.name)
		i := slices.IndexFunc(all, func(other trial) bool { return other.fault.row == t.fault.row })
		if i < 0 {
			all = append(all, t)
			continue
		}
		all[i].during = slices.Concat(all[i].during, t.during)
		all[i].back = max(all[i].back, t.back)
	}
	return all
}

// totals returns the sums of all trials.
func totals(trials []trial, day time.Time) string {
	var sum account
	for _, t := range trials {
		sum.acknowledged += t.account.acknowledged
		sum.unknown += t.account.unknown
		sum.stored += t.account.stored
	}
	return fmt.Sprintf("Last run: %s, %d faults. The database acknowledged %d writes and has all of them, unchanged. Of the failed writes (%d), each is there completely or not at all.\n",
		day.UTC().Format(time.DateOnly), len(trials), sum.acknowledged, sum.unknown+sum.stored)
}

// details returns a table for the output of a run: whether anything was lost or is left.
func details(trials []trial) string {
	lines := [][]string{{"fault", "writes acknowledged", "writes failed", "resources left", "memory"}}
	for _, t := range trials {
		lines = append(lines, []string{
			t.fault.name, strconv.Itoa(t.account.acknowledged), strconv.Itoa(t.account.unknown + t.account.stored),
			t.leftBehind(), fmt.Sprintf("%+.1f MiB", float64(t.after.memory-t.before.memory)/1024),
		})
	}
	return mdtable.Table(lines)
}

// newcomers returns what clients without a session received.
func (t *trial) newcomers() string {
	return summary(t.during, observation.atLogin, func(o observation) time.Duration { return o.waited })
}

// inSession returns what clients with a session received.
func (t *trial) inSession() string {
	return summary(t.during, func(o observation) bool { return !o.atLogin() }, func(o observation) time.Duration { return o.stalled })
}

// worthSaying is the least wait that is reported.
const worthSaying = time.Second

// noError is the outcome of clients without an error or a long wait.
const noError = "no error"

// summary counts the errors, and has the longest wait.
func summary(all []observation, which func(observation) bool, wait func(observation) time.Duration) string {
	received := make(map[string]int)
	longest := time.Duration(0)
	for _, o := range all {
		if o.err != nil && which(o) {
			received[o.received()]++
		}
		longest = max(longest, wait(o))
	}
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(received)) {
		parts = append(parts, outcome(what, received[what]))
	}
	if longest >= worthSaying {
		parts = append(parts, "wait up to "+round(longest))
	}
	if len(parts) == 0 {
		return noError
	}
	return strings.Join(parts, ", ")
}

// outcome returns the number of clients with the same error, as text.
func outcome(what string, n int) string {
	switch {
	case what == connectionLost && n == 1:
		return "1 lost connection"
	case what == connectionLost:
		return fmt.Sprintf("%d lost connections", n)
	case n == 1:
		return "1 error " + what
	default:
		return fmt.Sprintf("%d errors %s", n, what)
	}
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
		return fmt.Sprintf("%d ms", d.Round(10*time.Millisecond).Milliseconds())
	default:
		return strconv.FormatFloat(d.Round(100*time.Millisecond).Seconds(), 'f', -1, 64) + " s"
	}
}

// say prints the result of a trial.
func (t *trial) say(out io.Writer) {
	fmt.Fprintf(out, "%s: clients that connect: %s; open sessions: %s; new sessions after %s, every kind of client after %s; resources left: %s (%v)\n",
		t.fault.name, t.newcomers(), t.inSession(), round(t.back), round(t.allBack), t.leftBehind(), t.took.Round(time.Second))
	if t.err != nil {
		fmt.Fprintf(out, "  FAILED: %s\n", strings.ReplaceAll(t.err.Error(), "\n", "; "))
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
	return fmt.Errorf("%d of %d trials failed, for example %w", len(failed), len(trials), failed[0])
}
