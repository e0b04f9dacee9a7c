package proxy

import (
	"net"

	"golang.org/x/sys/unix"
)

// checkWindow adjusts the user timeout, unless there is nothing to send: thousands
// of idle sessions should not cost anything.
func (s *socket) checkWindow() {
	if s.wrote.Swap(false) || s.unsent {
		s.unsent = adjustUserTimeout(s.Conn)
	}
}

// adjustUserTimeout sets the user timeout of a connection, or lifts it while the
// other side is alive with its window closed: there are bytes to send, none of
// them on their way, and no more than the last probe is without an answer. It
// reports whether there is anything that the other side does not have yet.
func adjustUserTimeout(conn net.Conn) (unsent bool) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return false
	}
	control(tcp, func(fd int) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		unsent = info.Notsent_bytes > 0 || info.Unacked > 0
		timeout := int(userTimeout.Milliseconds())
		if info.Notsent_bytes > 0 && info.Unacked == 0 && info.Probes <= 1 {
			timeout = 0
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, timeout)
	})
	return unsent
}
