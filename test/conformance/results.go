//go:build unix

package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// result is the result of one test.
type result struct {
	test   string
	passed bool
	output string // of the test's client
}

// verdicts match pg_regress's lines about a test, up to PostgreSQL 15 as
//
//	test boolean                      ... ok           77 ms
//	     char                         ... FAILED       12 ms
//
// and in TAP from 16 on, with a + for a test that ran in parallel with others:
//
//	ok 2         + boolean                                    77 ms
//	not ok 3     + char                                       12 ms
var (
	verdict    = regexp.MustCompile(`^(?:test | {5})(\S+) +\.\.\. (ok|FAILED|failed \(ignored\))`)
	tapVerdict = regexp.MustCompile(`^(ok|not ok) \d+ +[-+] (\S+)`)
)

// parse parses the output of pg_regress. The order is that of its schedule.
func parse(output string) []result {
	var results []result
	for line := range strings.Lines(output) {
		if m := verdict.FindStringSubmatch(line); m != nil {
			results = append(results, result{test: m[1], passed: m[2] == "ok"})
		} else if m := tapVerdict.FindStringSubmatch(line); m != nil {
			results = append(results, result{test: m[2], passed: m[1] == "ok"})
		}
	}
	return results
}

func tally(results []result) string {
	n := passed(results)
	return fmt.Sprintf("%d tests, %d passed, %d failed", len(results), n, len(results)-n)
}

// passed returns how many tests have passed.
func passed(results []result) (n int) {
	for _, r := range results {
		if r.passed {
			n++
		}
	}
	return n
}

// compare prints both lists side by side, the second that of a route through iamproxy, and
// reports whether they are the same. A test that is missing on one side is a difference. So
// is one that fails differently on both, or else one failure could hide another.
func compare(out io.Writer, r route, direct, proxied []result) bool {
	same := true
	fmt.Fprintf(out, "  %-34s %-8s %s\n", "test", "direct", r.name)
	for _, pair := range pairs(direct, proxied) {
		note := ""
		switch {
		case word(pair.direct) != word(pair.proxied):
			note = "differs"
		case !pair.direct.passed && pair.direct.output != pair.proxied.output:
			note = "fails differently"
		}
		switch known := r.known[pair.test]; {
		case known != "" && note != "":
			note += ", as is known: it " + known
		case note != "":
			same = false
		}
		line := fmt.Sprintf("  %-34s %-8s %-8s %s", pair.test, word(pair.direct), word(pair.proxied), note)
		fmt.Fprintln(out, strings.TrimRight(line, " "))
	}
	return same
}

func word(r *result) string {
	switch {
	case r == nil:
		return "missing"
	case r.passed:
		return "ok"
	default:
		return "failed"
	}
}

// pair is one test on both routes; nil where it did not run.
type pair struct {
	test            string
	direct, proxied *result
}

// pairs returns the tests in the order of the first list, and then those of the second
// alone.
func pairs(direct, proxied []result) []pair {
	other := make(map[string]*result)
	for i := range proxied {
		other[proxied[i].test] = &proxied[i]
	}
	var all []pair
	for i := range direct {
		test := direct[i].test
		all = append(all, pair{test, &direct[i], other[test]})
		delete(other, test)
	}
	for i := range proxied {
		if other[proxied[i].test] != nil {
			all = append(all, pair{proxied[i].test, nil, &proxied[i]})
		}
	}
	return all
}
