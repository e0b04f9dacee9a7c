package proxy

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// tcpClosed is the state of a connection that is no more: it was reset, the other
// side has vanished, or both sides have closed it (TCP_CLOSE in Linux's
// include/net/tcp_states.h). If only the other side has closed it, it is another.
const tcpClosed = 7

// gone reports whether there is no connection any more.
func gone(conn *net.TCPConn) (yes bool) {
	control(conn, func(fd int) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		yes = err == nil && info.State == tcpClosed
	})
	return yes
}

// acknowledgedEvery is well below the time for which an acknowledgement may be
// delayed (40 ms).
const acknowledgedEvery = 5 * time.Millisecond

// acknowledged waits until the other side's system has all that was sent
// (SIOCOUTQ, tcp(7)), which its program can still read after a reset. It reports
// whether that was so within limit.
func acknowledged(conn *net.TCPConn, limit time.Duration) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(acknowledgedEvery) {
		left := -1
		control(conn, func(fd int) {
			if n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ); err == nil {
				left = n
			}
		})
		if left <= 0 || time.Now().After(deadline) {
			return left == 0
		}
	}
}

// control calls f with the connection's descriptor, unless it is closed.
func control(conn *net.TCPConn, f func(fd int)) {
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}
