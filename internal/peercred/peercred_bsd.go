//go:build darwin || freebsd

package peercred

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

const supportsUnix, supportsTCP = true, false

// unixUser returns the user that the peer process had when it connected, see unix(4).
func unixUser(conn *net.UnixConn) (uid uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		var credentials *unix.Xucred
		if credentials, failed = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED); failed == nil {
			uid = credentials.Uid
		}
	}); err != nil {
		return 0, err
	}
	return uid, os.NewSyscallError("getsockopt", failed)
}

func tcpUser(*net.TCPConn) (uint32, error) { return 0, errUnknown }
