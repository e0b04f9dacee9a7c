package proxy

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// adjustUserTimeout sets the user timeout of a connection, or lifts it while the
// other side is alive with its window closed: there are bytes to send, none of
// them on their way, and no more than the last probe is without an answer.
func adjustUserTimeout(conn net.Conn) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		timeout := int(userTimeout.Milliseconds())
		if info.Notsent_bytes > 0 && info.Unacked == 0 && info.Probes <= 1 {
			timeout = 0
		}
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, timeout)
	})
}
