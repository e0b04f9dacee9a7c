package proxy

import (
	"net"

	"golang.org/x/sys/unix"
)

// adjustUserTimeout sets the user timeout of a connection, or lifts it while the
// other side is alive with its window closed: there are bytes to send, none of
// them on their way, and no more than the last probe is without an answer.
func adjustUserTimeout(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	control(tcp, func(fd int) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		timeout := int(userTimeout.Milliseconds())
		if info.Notsent_bytes > 0 && info.Unacked == 0 && info.Probes <= 1 {
			timeout = 0
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, timeout)
	})
}
