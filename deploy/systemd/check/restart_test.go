//go:build linux

package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fake stands in for systemctl and iamproxy: it logs its arguments to CALLS, reports the units in
// ACTIVE as active, and fails at the verb in FAIL.
const fake = `#!/bin/sh
echo "$*" >>"$CALLS"
case $1 in
is-active) case " $ACTIVE " in *" $3 "*) exit 0 ;; *) exit 3 ;; esac ;;
"$FAIL") exit 1 ;;
esac
`

func TestRestart(t *testing.T) {
	if !strings.Contains(setting(t, "iamproxy@.service", "ExecStart"), "--admin 127.0.0.1:909%i ") {
		t.Error("iamproxy-restart waits at another address than that of iamproxy@.service")
	}
	const zero, one = "iamproxy@0.service", "iamproxy@1.service"
	for name, c := range map[string]struct {
		active, fail string
		calls        []string // without is-active
		ends         bool
	}{
		"nothing runs":    {"", "", []string{"start iamproxy.socket " + zero}, true},
		"the first runs":  {zero, "", []string{"start " + one, "wait --admin 127.0.0.1:9091 --timeout 10s", "stop --no-block " + zero}, true},
		"the second runs": {one, "", []string{"start " + zero, "wait --admin 127.0.0.1:9090 --timeout 10s", "stop --no-block " + one}, true},
		"both run":        {zero + " " + one, "", nil, false},
		"no start":        {zero, "start", []string{"start " + one}, false},
		"not ready":       {zero, "wait", []string{"start " + one, "wait --admin 127.0.0.1:9091 --timeout 10s", "stop --no-block " + one}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			calls := filepath.Join(dir, "calls")
			for _, name := range []string{"systemctl", "iamproxy"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(fake), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command("../iamproxy-restart")
			cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "CALLS=" + calls, "ACTIVE=" + c.active, "FAIL=" + c.fail}
			said, err := cmd.CombinedOutput()
			if (err == nil) != c.ends {
				t.Errorf("it exited with %v: %s", err, said)
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
