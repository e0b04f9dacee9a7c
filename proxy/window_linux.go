package proxy

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// setUserTimeout is a net.Dialer's Control.
func setUserTimeout(_, _ string, conn syscall.RawConn) error {
	var failed error
	err := conn.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return failed
}

// adjustUserTimeout lifts the timeout while there are bytes to send and none of
// them on their way, which is when the other side's window is closed.
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
		if info.Notsent_bytes > 0 && info.Unacked == 0 {
			timeout = 0
		}
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, timeout)
	})
}
