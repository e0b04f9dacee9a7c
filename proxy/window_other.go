//go:build !linux

package proxy

import (
	"net"
	"syscall"
)

// setUserTimeout does nothing where there is no such timeout: keep-alives alone
// tell that a server has vanished.
func setUserTimeout(_, _ string, _ syscall.RawConn) error { return nil }

func adjustUserTimeout(net.Conn) {}
