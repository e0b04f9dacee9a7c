package netconn

import (
	"net"

	"golang.org/x/sys/unix"
)

// adjustUserTimeout sets the user timeout of conn, or lifts it while the peer is alive
// with its window closed: there are bytes to send, none of them in flight, and at most
// the last probe is unacknowledged. It reports whether there are bytes that the peer
// has not acknowledged.
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
		timeout := int(UserTimeout.Milliseconds())
		if info.Notsent_bytes > 0 && info.Unacked == 0 && info.Probes <= 1 {
			timeout = 0
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, timeout)
	})
	return unsent
}
