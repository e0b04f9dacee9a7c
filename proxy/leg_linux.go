package proxy

import (
	"net"

	"golang.org/x/sys/unix"
)

// allAcknowledged reports whether the other side's system has all that was sent
// (SIOCOUTQ, tcp(7)). Its program can still read that after a reset.
func allAcknowledged(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	left := -1
	_ = raw.Control(func(fd uintptr) {
		left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	})
	return err == nil && left == 0
}
