// Package peercred identifies the user whose process is at the other end of a connection.
package peercred

import (
	"errors"
	"fmt"
	"net"
)

// errUnknown is returned where the operating system does not identify the peer.
var errUnknown = errors.New("the system does not report it")

// User returns the ID of the user whose process made the connection. For a user outside this
// process's user namespace, Linux reports the overflow ID, 65534. User supports unix sockets
// on Linux, macOS and FreeBSD, and TCP on Linux if both ends are on this host. After an error
// the client must be treated as unidentified.
func User(conn net.Conn) (uid uint32, err error) {
	switch conn := conn.(type) {
	case *net.UnixConn:
		uid, err = unixUser(conn)
	case *net.TCPConn:
		uid, err = tcpUser(conn)
	default:
		err = errUnknown
	}
	if err != nil {
		return 0, fmt.Errorf("could not determine the user of the client: %w", err)
	}
	return uid, nil
}

// Supported reports whether User can identify the clients of a listener on network, which is
// "unix" or "tcp".
func Supported(network string) bool {
	return network == "unix" && supportsUnix || network == "tcp" && supportsTCP
}
