package proxy

import (
	"net"

	"golang.org/x/sys/unix"
)

// hasArrived reports whether a connection has something to be read.
func hasArrived(conn *net.TCPConn) bool {
	err := error(unix.EAGAIN)
	control(conn, func(fd int) {
		_, _, err = unix.Recvfrom(fd, make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return err != unix.EAGAIN //nolint:errorlint // Recvfrom returns it as it is
}
