//go:build unix

package program

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	run := func(limit time.Duration, script string) (string, error) {
		out, err := Run(t.Context(), limit, dir, append(os.Environ(), "A=b"), []string{"sh", "-c", script})
		return string(out), err
	}
	if out, err := run(time.Minute, `echo "$A" "$PWD"; echo c >&2`); err != nil || out != "b "+dir+"\n" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := run(time.Minute, "echo out; echo err >&2; exit 3"); err == nil || !strings.HasSuffix(err.Error(), "exit status 3: out\nerr") {
		t.Errorf("%v", err)
	}
	// A child that has the output open would block the call.
	began := time.Now()
	if _, err := run(100*time.Millisecond, "sleep 60 & sleep 60"); err == nil || time.Since(began) > 30*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

func TestChoose(t *testing.T) {
	items := []string{"a", "b"}
	nameOf := func(item string) string { return item }
	for _, test := range []struct{ names, want []string }{{nil, items}, {[]string{"b"}, []string{"b"}}, {[]string{"b", "c"}, nil}} {
		if got, err := Choose(items, nameOf, test.names); !slices.Equal(got, test.want) || (err != nil) != (test.want == nil) {
			t.Errorf("%q: %q, %v", test.names, got, err)
		}
	}
}
