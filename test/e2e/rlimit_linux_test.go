package e2e

import (
	"testing"

	"golang.org/x/sys/unix"
)

// setDescriptors limits the file descriptors of a process. Those that are open stay.
func setDescriptors(t *testing.T, p *process, n uint64) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = n
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
}
