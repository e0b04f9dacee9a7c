//go:build !linux

package netconn

// adjustUserTimeout does nothing: this system has no user timeout. Keep-alives alone
// detect a peer that has vanished.
func adjustUserTimeout(*Socket) bool { return false }
