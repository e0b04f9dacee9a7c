package netconn

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tcpClosed is the state of a connection that was reset, has timed out, or was closed
// by both sides (TCP_CLOSE in Linux's include/net/tcp_states.h).
const tcpClosed = 7

// isReset reports whether the connection no longer exists.
func isReset(socket *Socket) (yes bool) {
	socket.Control(func(fd int) {
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
func waitSendQueueEmpty(socket *Socket, timeout time.Duration) bool {
	for deadline := time.Now().Add(timeout); ; time.Sleep(sendQueueInterval) {
		queued := -1
		socket.Control(func(fd int) {
			if n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ); err == nil {
				queued = n
			}
		})
		if queued <= 0 || time.Now().After(deadline) {
			return queued == 0
		}
	}
}

// Control calls f with the descriptor of a socket that is open.
func (s *Socket) Control(f func(fd int)) {
	s.mu.Lock()
	if s.loop.active() {
		defer s.mu.Unlock()
		f(s.loop.fd)
		return
	}
	conn, ok := s.conn.(syscall.Conn)
	s.mu.Unlock()
	if !ok {
		return
	}
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}
