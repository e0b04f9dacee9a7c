//go:build unix && !linux

package e2e

import "testing"

// setDescriptors skips the test: only a process itself can set its limit here.
func setDescriptors(t *testing.T, _ *process, _ uint64) {
	t.Helper()
	t.Skip("the limit of another process cannot be set here")
}
