//go:build unix

package main

import (
	"slices"
	"strings"
	"testing"
)

// Output of pg_regress of PostgreSQL 15.
const printed = `(using postmaster on 127.0.0.1, port 44533)
============== running regression test queries        ==============
test test_setup                   ... ok          236 ms
parallel group (3 tests):  char boolean name
     boolean                      ... ok           77 ms
     char                         ... FAILED       12 ms
     name                         ... FAILED (test process exited with exit code 2)       9 ms
test random                       ... failed (ignored)       12 ms
test merge-delete                 ... 
========================
 2 of 4 tests failed. 
========================
`

// The same of PostgreSQL 17.
const printedTAP = `# using postmaster on 127.0.0.1, port 44533
ok 1         - test_setup                                236 ms
# parallel group (3 tests):  char boolean name
ok 2         + boolean                                    77 ms
not ok 3     + char                                       12 ms
# (test process exited with exit code 2)
not ok 4     + name                                        9 ms
not ok 5     - random                                     12 ms
1..5
# 3 of 5 tests failed.
`

func TestParse(t *testing.T) {
	want := []result{
		{test: "test_setup", passed: true}, {test: "boolean", passed: true},
		{test: "char"}, {test: "name"}, {test: "random"},
	}
	for name, output := range map[string]string{"15": printed, "17": printedTAP} {
		if got := parse(output); !slices.Equal(got, want) {
			t.Errorf("of PostgreSQL %s: %+v, want %+v", name, got, want)
		}
	}
	if got := parse("psql: error: connection refused\n"); len(got) > 0 {
		t.Errorf("of no test: %+v", got)
	}
}

func TestCompare(t *testing.T) {
	pass := func(test string) result { return result{test: test, passed: true, output: "t"} }
	fail := func(test, output string) result { return result{test: test, output: output} }
	for name, test := range map[string]struct {
		direct, proxied []result
		same            bool
		line            string // that must be printed, without spaces
	}{
		"both pass":         {[]result{pass("a"), pass("b")}, []result{pass("a"), pass("b")}, true, "b ok ok"},
		"in another order":  {[]result{pass("a"), pass("b")}, []result{pass("b"), pass("a")}, true, "b ok ok"},
		"both fail":         {[]result{pass("a"), fail("b", "f")}, []result{pass("a"), fail("b", "f")}, true, "b failed failed"},
		"fails proxied":     {[]result{pass("a"), pass("b")}, []result{pass("a"), fail("b", "f")}, false, "b ok failed differs"},
		"fails direct":      {[]result{fail("a", "f"), pass("b")}, []result{pass("a"), pass("b")}, false, "a failed ok differs"},
		"fails differently": {[]result{fail("a", "f")}, []result{fail("a", "g")}, false, "a failed failed fails differently"},
		"missing proxied":   {[]result{pass("a"), pass("b")}, []result{pass("a")}, false, "b ok missing differs"},
		"fails as is known": {[]result{pass("a"), pass("known")}, []result{pass("a"), fail("known", "f")}, true, "known ok failed differs, as is known: it must"},
		"missing direct":    {[]result{pass("b")}, []result{pass("a"), pass("b")}, false, "a missing ok differs"},
	} {
		var out strings.Builder
		if same := compare(&out, route{name: "proxied", known: map[string]string{"known": "must"}}, test.direct, test.proxied); same != test.same {
			t.Errorf("%s: same is %v", name, same)
		}
		found := false
		for line := range strings.Lines(out.String()) {
			found = found || strings.Join(strings.Fields(line), " ") == test.line
		}
		if !found {
			t.Errorf("%s: no line %q in\n%s", name, test.line, out.String())
		}
	}
}

func TestTally(t *testing.T) {
	if got, want := tally(parse(printed)), "5 tests, 2 passed, 3 failed"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
