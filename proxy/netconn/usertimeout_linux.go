package netconn

import (
	"golang.org/x/sys/unix"
)

// adjustUserTimeout sets the user timeout of a socket, or lifts it while the peer is alive
// with its window closed. The window is closed if there are bytes to send and none in
// flight. The peer is alive if at most the last probe is unacknowledged. adjustUserTimeout
// reports whether there are bytes that the peer has not acknowledged.
func adjustUserTimeout(socket *Socket) (unacked bool) {
	if !socket.isTCP() {
		return false
	}
	socket.Control(func(fd int) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		unacked = info.Notsent_bytes > 0 || info.Unacked > 0
		timeout := int(UserTimeout.Milliseconds())
		if info.Notsent_bytes > 0 && info.Unacked == 0 && info.Probes <= 1 {
			timeout = 0
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, timeout)
	})
	return unacked
}
