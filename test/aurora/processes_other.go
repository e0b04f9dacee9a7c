//go:build unix && !linux

package aurora

import (
	"fmt"
	"os/exec"
	"strings"
)

// processes lists all processes, by ps(1) of POSIX with the state of the BSDs.
func processes() ([]status, error) {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,stat=").Output()
	if err != nil {
		return nil, fmt.Errorf("ps: %w", err)
	}
	var all []status
	for line := range strings.Lines(string(out)) {
		var s status
		var state string
		if n, _ := fmt.Sscan(line, &s.pid, &s.parent, &state); n == 3 {
			s.state = state[0]
			all = append(all, s)
		}
	}
	return all, nil
}
