package proxy

import (
	"net"

	"golang.org/x/sys/unix"
)

// hasUnread reports whether the connection has unread data.
func hasUnread(conn *net.TCPConn) bool {
	err := error(unix.EAGAIN)
	if raw, rawErr := conn.SyscallConn(); rawErr == nil {
		_ = raw.Control(func(fd uintptr) {
			_, _, err = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		})
	}
	return err != unix.EAGAIN //nolint:errorlint // Recvfrom returns it as it is
}
