package e2e

import (
	"testing"

	"golang.org/x/sys/unix"
)

// setDescriptors has a process get no more than so many from now on; it keeps those that
// it has.
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
