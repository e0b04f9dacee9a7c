package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/internal/check"
)

func TestCheckUsage(t *testing.T) {
	noAWS(t)
	for want, args := range map[string][]string{
		"control characters":    {host, "--user=a\x1b[2J"},
		"--database: there are": {host, "--user=a", "--database=b\n"},
	} {
		code, stdout, stderr := try(t.Context(), append([]string{"check"}, args...)...)
		if code != 2 || stdout != "" || !strings.HasPrefix(stderr, "iamproxy: ") || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%q ended with %d, printed %q and %q, want 2 and one line with %q", args, code, stdout, stderr, want)
		}
	}
}

// Programs read these words.
func TestCheckReport(t *testing.T) {
	noAWS(t)
	code, stdout, stderr := try(t.Context(), "check", host+":6000?database=d&via=127.0.0.1:1", "--user=u", "--timeout=1ns", "--json")
	var report map[string]any
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != 1 || stderr != "" {
		t.Fatalf("ended with %d, printed %q and %q: %v", code, stdout, stderr, err)
	}
	for key, want := range map[string]any{
		"endpoint": host + ":6000", "user": "u", "database": "d", "ok": false, "cause": "the time was up before anything could be said",
		"next": "iamproxy check " + host + ":6000 --user u --database d --via 127.0.0.1:1 --timeout 2m",
	} {
		if report[key] != want {
			t.Errorf("%s is %v, want %v", key, report[key], want)
		}
	}
	steps, _ := report["steps"].([]any)
	if len(report) != 7 || len(steps) != 13 {
		t.Fatalf("%d keys, %d steps: %s", len(report), len(steps), stdout)
	}
	step, _ := steps[0].(map[string]any)
	if len(step) != 5 || step["name"] != "endpoint" || step["state"] != "not tried" || step["found"] != "because the time is up" || step["next"] != "" || step["seconds"] != 0.0 {
		t.Errorf("the first step is %v", step)
	}
}

func TestCheckScreen(t *testing.T) {
	var plain, coloured bytes.Buffer
	for out, colours := range map[*bytes.Buffer]bool{&plain: false, &coloured: true} {
		screen := &checkScreen{out: out, colours: colours}
		screen.step(check.Step{Name: "tcp", State: check.Failed, Found: "closed", Next: "open it", Seconds: 1.234})
		screen.step(check.Step{Name: "login", State: check.Failed, Found: "for the same reason", Next: "open it"})
		screen.step(check.Step{Name: "round trip", State: check.NotTried, Found: "because of tcp"})
		if err := screen.verdict(check.Report{Cause: "u cannot log in: closed", Next: "open it"}); err != nil {
			t.Error(err)
		}
	}
	want := `tcp          failed          1234 ms  closed
                                      open it
login        failed             0 ms  for the same reason
round trip   not tried                because of tcp

failed: u cannot log in: closed
do this next:
open it
`
	if plain.String() != want {
		t.Errorf("plain:\n%s", plain.String())
	}
	if text := coloured.String(); !strings.Contains(text, "\x1b[31mfailed       \x1b[0m ") || strings.NewReplacer("\x1b[31m", "", "\x1b[2m", "", "\x1b[0m", "").Replace(text) != want {
		t.Errorf("in colour: %q", text)
	}
}

// Colours are for terminals alone.
func TestWantsColours(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if wantsColours(file) || wantsColours(new(bytes.Buffer)) {
		t.Error("colours in a file")
	}
}

// A full disk, or a reader that has left, is a failure of its own.
func TestCheckUnwritten(t *testing.T) {
	screen := &checkScreen{out: closedWriter{}}
	screen.step(check.Step{})
	if screen.verdict(check.Report{OK: true}) == nil {
		t.Error("it was not noticed")
	}
}

type closedWriter struct{}

func (closedWriter) Write([]byte) (int, error) { return 0, os.ErrClosed }
