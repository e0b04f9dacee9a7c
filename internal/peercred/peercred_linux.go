package peercred

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

const supportsUnix, supportsTCP = true, true

// unixUser returns the user that the peer process had when it connected, see unix(7).
func unixUser(conn *net.UnixConn) (uid uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		var credentials *unix.Ucred
		if credentials, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); failed == nil {
			uid = credentials.Uid
		}
	}); err != nil {
		return 0, err
	}
	return uid, os.NewSyscallError("getsockopt", failed)
}

// Sizes of inet_diag_req_v2 and inet_diag_msg with the header of a netlink message, and
// values of their fields. See sock_diag(7) and linux/inet_diag.h.
const (
	headerSize  = unix.NLMSG_HDRLEN
	idSize      = 48
	requestSize = headerSize + 8 + idSize
	messageSize = headerSize + 4 + idSize + 20

	// linux/tcp_states.h
	stateEstablished, stateFinWait1, stateFinWait2, stateCloseWait = 1, 4, 5, 8
)

var errGone = errors.New("the client has closed the connection")

// tcpUser returns the owner of the socket at the other end, which must be on this host, still
// be open for sending or receiving, and belong to a process. The kernel reports root as the
// owner of other sockets, such as one that its process has closed.
func tcpUser(conn *net.TCPConn) (uint32, error) {
	theirs, ours := addressOf(conn.RemoteAddr()), addressOf(conn.LocalAddr())
	message, err := diagnose(theirs, ours)
	switch {
	case errors.Is(err, unix.ENOENT):
		return 0, errors.New("the client is not on this host")
	case err != nil:
		return 0, err
	}
	state, id, rest := message[headerSize+1], message[headerSize+4:headerSize+4+idSize], message[headerSize+4+idSize:]
	uid, inode := binary.NativeEndian.Uint32(rest[12:]), binary.NativeEndian.Uint32(rest[16:])
	switch {
	case state != stateEstablished && state != stateFinWait1 && state != stateFinWait2 || inode == 0:
		return 0, errGone
	case !bytes.Equal(id[:4], identify(theirs, ours)[:4]): // the ports
		return 0, errors.New("the kernel returned another socket")
	}
	// If our end was reset before, another process may have taken the peer's port since.
	if ourState, err := stateOf(conn); err != nil || ourState != stateEstablished && (ourState != stateCloseWait || state == stateEstablished) {
		return 0, errGone
	}
	return uid, nil
}

// stateOf returns the TCP state of conn.
func stateOf(conn *net.TCPConn) (state uint8, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); failed == nil {
			state = info.State
		}
	}); err != nil {
		return 0, err
	}
	return state, os.NewSyscallError("getsockopt", failed)
}

func addressOf(a net.Addr) netip.AddrPort {
	address := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(address.Addr().Unmap().WithZone(""), address.Port())
}

// identify returns the inet_diag_sockid of the socket with these addresses.
func identify(local, remote netip.AddrPort) []byte {
	id := make([]byte, 0, idSize)
	id = binary.BigEndian.AppendUint16(id, local.Port())
	id = binary.BigEndian.AppendUint16(id, remote.Port())
	for _, end := range []netip.AddrPort{local, remote} {
		id = append(id, end.Addr().AsSlice()...)
		id = append(id, make([]byte, 16-end.Addr().BitLen()/8)...)
	}
	id = append(id, 0, 0, 0, 0)                                       // any interface
	return append(id, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff) // no cookie
}

// diagnose returns the kernel's inet_diag_msg for the socket with these addresses. It does not
// list sockets by port: such a list may begin with the socket of another process.
func diagnose(local, remote netip.AddrPort) ([]byte, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	family := byte(unix.AF_INET)
	if local.Addr().Is6() {
		family = unix.AF_INET6
	}
	request := binary.NativeEndian.AppendUint32(nil, requestSize)
	request = binary.NativeEndian.AppendUint16(request, unix.SOCK_DIAG_BY_FAMILY)
	request = binary.NativeEndian.AppendUint16(request, unix.NLM_F_REQUEST)
	request = append(request, make([]byte, headerSize-len(request))...) // no sequence number, no sender
	request = append(request, family, unix.IPPROTO_TCP, 0, 0)
	request = binary.NativeEndian.AppendUint32(request, 1<<stateEstablished)
	request = append(request, identify(local, remote)...)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return nil, os.NewSyscallError("recvfrom", err)
	}
	return parse(answer[:n])
}

// parse validates an answer and returns it.
func parse(answer []byte) ([]byte, error) {
	if len(answer) < headerSize+4 {
		return nil, errors.New("the kernel's answer is too short")
	}
	switch kind := binary.NativeEndian.Uint16(answer[4:]); {
	case kind == unix.NLMSG_ERROR:
		return nil, os.NewSyscallError("sock_diag", unix.Errno(-int32(binary.NativeEndian.Uint32(answer[headerSize:])))) // negated
	case kind != unix.SOCK_DIAG_BY_FAMILY || len(answer) < messageSize:
		return nil, fmt.Errorf("the kernel's answer is of kind %d, and has %d bytes", kind, len(answer))
	}
	return answer, nil
}
