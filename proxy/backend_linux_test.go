package proxy

import (
	"net"

	"golang.org/x/sys/unix"
)

// hasArrived reports whether a connection has something to be read.
func hasArrived(conn *net.TCPConn) bool {
	err := error(unix.EAGAIN)
	if raw, rawErr := conn.SyscallConn(); rawErr == nil {
		_ = raw.Control(func(fd uintptr) {
			_, _, err = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		})
	}
	return err != unix.EAGAIN //nolint:errorlint // Recvfrom returns it as it is
}
