//go:build linux

package main

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestSummary(t *testing.T) {
	shutdown := &pgconn.PgError{Code: "57P01"}
	lost := errors.New("reset")
	all := []observation{
		{err: loginError{shutdown}, waited: 3 * time.Second},
		{err: loginError{shutdown}},
		{err: lost, stalled: 20460 * time.Millisecond},
		{},
	}
	trial := trial{during: all}
	if got, want := trial.newcomers(), "2 errors 57P01, wait up to 3 s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := trial.inSession(), "1 lost connection, wait up to 20.5 s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	trial.during = []observation{{waited: 900 * time.Millisecond}}
	if got, want := trial.newcomers(), noError; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A table has no column for open sessions if none was affected.
func TestRows(t *testing.T) {
	trials := []trial{{fault: fault{group: ofDNS, name: "f"}, back: time.Second}, {fault: fault{group: ofHost}}}
	want := []string{"f", noError, "1 s"}
	if got := rows(trials, ofDNS); len(got) != 2 || !slices.Equal(got[1], want) {
		t.Errorf("%q, want a header and %q", got, want)
	}
	trials[0].during = []observation{{stalled: 2 * time.Second}}
	want = append(want, "wait up to 2 s")
	if got := rows(trials, ofDNS); len(got) != 2 || !slices.Equal(got[1], want) {
		t.Errorf("%q, want a header and %q", got, want)
	}
}

// Faults with the same row are one line, with the worst of both.
func TestMerged(t *testing.T) {
	trials := []trial{
		{fault: fault{group: ofDNS, name: "a", row: "both"}, back: time.Second, during: []observation{{waited: 2 * time.Second}}},
		{fault: fault{group: ofDNS, name: "b", row: "both"}, during: []observation{{waited: 3 * time.Second}}},
	}
	want := []string{"both", "wait up to 3 s", "1 s"}
	if got := rows(trials, ofDNS); len(got) != 2 || !slices.Equal(got[1], want) {
		t.Errorf("%q, want a header and %q", got, want)
	}
}

func TestRound(t *testing.T) {
	for d, want := range map[time.Duration]string{3 * time.Millisecond: "at once", 994 * time.Millisecond: "990 ms", 7 * time.Second: "7 s", 1260 * time.Millisecond: "1.3 s"} {
		if got := round(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// The page has a place for each fault and for the soak, and the totals are sums.
func TestPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "reliability.md")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var trials []trial
	for _, f := range slices.Concat(faults(), clockFaults()) {
		trials = append(trials, trial{fault: f, account: account{acknowledged: 100, unknown: 1, stored: 1}})
	}
	if err := writePage(file, trials, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wanted := []string{"1970-01-01, 30 faults", "3000 writes", "failed writes (60)", "<!-- " + soakPlace + " from here -->"}
	for _, trial := range trials {
		wanted = append(wanted, "| "+cmp.Or(trial.fault.row, trial.fault.name)+" ")
	}
	for _, want := range wanted {
		if strings.Count(string(got), want) != 1 {
			t.Errorf("%q is %d times in the page", want, strings.Count(string(got), want))
		}
	}
}
