//go:build unix

package e2e

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// A health check runs `iamproxy wait` every few seconds. Most of its cost is the initialization
// of the packages of all commands, which allocates memory for their tables.
func TestInitializationAllocates(t *testing.T) {
	t.Parallel()
	most := 1_600_000 // bytes
	if raceEnabled() {
		most += 1_500_000 // of the race detector
	}
	cmd := exec.Command(binaryPath(t), "version")
	cmd.Env = bareEnvironment("GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// init PACKAGE @TIME ms, DURATION ms clock, BYTES bytes, ALLOCATIONS allocs
	sum := 0
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); fields[0] == "init" {
			bytes, err := strconv.Atoi(fields[7])
			if err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			sum += bytes
		}
	}
	if sum == 0 || sum > most {
		t.Errorf("packages allocate %d bytes, want at most %d:\n%s", sum, most, out)
	}
}
