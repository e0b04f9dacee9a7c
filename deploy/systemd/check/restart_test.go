//go:build linux

package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// systemctl writes down what it is asked, and knows of the units in ACTIVE.
const systemctl = `#!/bin/sh
echo "$*" >>"$CALLS"
case $1 in
is-active) case " $ACTIVE " in *" $3 "*) exit 0 ;; *) exit 3 ;; esac ;;
start) [ -z "${FAIL-}" ] ;;
esac
`

func TestRestart(t *testing.T) {
	const zero, one = "iamproxy@0.service", "iamproxy@1.service"
	for name, c := range map[string]struct {
		active, fail string
		calls        []string // but for the questions
		ends         bool
	}{
		"nothing runs":       {"", "", []string{"start iamproxy.socket " + zero}, true},
		"the first runs":     {zero, "", []string{"start " + one, "stop --no-block " + zero}, true},
		"the second runs":    {one, "", []string{"start " + zero, "stop --no-block " + one}, true},
		"both run":           {zero + " " + one, "", nil, false},
		"the new one cannot": {zero, "yes", []string{"start " + one}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			calls := filepath.Join(dir, "calls")
			if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(systemctl), 0o700); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("../iamproxy-restart")
			cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "CALLS=" + calls, "ACTIVE=" + c.active, "FAIL=" + c.fail}
			said, err := cmd.CombinedOutput()
			if (err == nil) != c.ends {
				t.Errorf("it ended with %v: %s", err, said)
			}
			text, err := os.ReadFile(calls)
			if err != nil {
				t.Fatal(err)
			}
			var did []string
			for line := range strings.Lines(string(text)) {
				if !strings.HasPrefix(line, "is-active ") {
					did = append(did, strings.TrimSpace(line))
				}
			}
			if strings.Join(did, "; ") != strings.Join(c.calls, "; ") {
				t.Errorf("it did %q, want %q", did, c.calls)
			}
		})
	}
}
