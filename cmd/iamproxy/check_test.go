package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestCheckUsage(t *testing.T) {
	noAWS(t)
	for want, args := range map[string][]string{
		"--user: a name must not have control characters":           {host, "--user=a\x1b[2J"},
		"--database: a name must not have control characters":       {host, "--user=a", "--database=b\nc"},
		"--user and --database must not contain control characters": {host + "?user=a%1b"},
	} {
		code, stdout, stderr := try(t.Context(), append([]string{"check"}, args...)...)
		if code != 2 || stdout != "" || !strings.HasPrefix(stderr, "iamproxy: ") || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q, want 2 and one line with %q", args, code, stdout, stderr, want)
		}
	}
}

// The keys and states of the JSON report are an interface for programs.
func TestCheckReport(t *testing.T) {
	noAWS(t)
	code, stdout, stderr := try(t.Context(), "check", host+":6000?database=d&via=127.0.0.1:1", "--user=u", "--timeout=1ns", "--json")
	var report map[string]any
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != 1 || stderr != "" {
		t.Fatalf("exit code %d, stdout %q, stderr %q: %v", code, stdout, stderr, err)
	}
	for key, want := range map[string]any{
		"endpoint": host + ":6000", "user": "u", "database": "d", "ok": false, "cause": "timed out before completing any check",
		"next": "iamproxy check " + host + ":6000 --user u --database d --via 127.0.0.1:1 --timeout 2m",
	} {
		if report[key] != want {
			t.Errorf("%s is %v, want %v", key, report[key], want)
		}
	}
	steps, _ := report["steps"].([]any)
	if len(report) != 9 || len(steps) != 13 {
		t.Fatalf("%d keys, %d steps: %s", len(report), len(steps), stdout)
	}
	step, _ := steps[0].(map[string]any)
	if len(step) != 6 || step["name"] != "endpoint" || step["reason"] != "" || step["state"] != "not tried" || step["found"] != "because the timeout has passed" || step["next"] != "" || step["seconds"] != 0.0 {
		t.Errorf("the first step is %v", step)
	}
}
