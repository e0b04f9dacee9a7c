// Package hardening protects the memory of the process from other processes.
package hardening

import "golang.org/x/sys/unix"

// DisableDumps keeps other processes of the same user from reading the memory, environment
// and descriptors of this process, and disables core dumps. Child processes are not affected.
func DisableDumps() {
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // best effort: the process works without it
}
