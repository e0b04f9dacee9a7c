//go:build !linux

package netconn

import "net"

// adjustUserTimeout does nothing: this system has no user timeout. Keep-alives alone
// detect a peer that has vanished.
func adjustUserTimeout(net.Conn) bool { return false }
