package netconn

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// tcpClosed is the state of a connection that was reset, has timed out, or was closed
// by both sides (TCP_CLOSE in Linux's include/net/tcp_states.h).
const tcpClosed = 7

// isReset reports whether the connection no longer exists.
func isReset(conn *net.TCPConn) (yes bool) {
	control(conn, func(fd int) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		yes = err == nil && info.State == tcpClosed
	})
	return yes
}

// sendQueueInterval is well below the longest delay of an acknowledgement (40 ms).
const sendQueueInterval = 5 * time.Millisecond

// waitSendQueueEmpty waits until the peer's system has acknowledged all that was sent
// (SIOCOUTQ, tcp(7)). The peer can then read it even after a reset. It reports false if
// that takes longer than timeout.
func waitSendQueueEmpty(conn *net.TCPConn, timeout time.Duration) bool {
	for deadline := time.Now().Add(timeout); ; time.Sleep(sendQueueInterval) {
		queued := -1
		control(conn, func(fd int) {
			if n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ); err == nil {
				queued = n
			}
		})
		if queued <= 0 || time.Now().After(deadline) {
			return queued == 0
		}
	}
}

// control calls f with the descriptor of conn, unless conn is closed.
func control(conn *net.TCPConn, f func(fd int)) {
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}
