// Package peercred knows which user's process is at the other end of a connection, as far as
// the system tells.
package peercred

import (
	"errors"
	"fmt"
	"net"
)

// errUnknown is that of a connection about which the system tells nothing.
var errUnknown = errors.New("the system does not tell")

// User is the id of the user whose process has made the connection, as seen from here: of
// a user that is not in this process's user namespace it is the overflow id, 65534. It
// knows those of unix sockets on Linux, macOS and FreeBSD, and of TCP on Linux, if both ends
// are on this host. An error is about a client that may be anybody's.
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
		return 0, fmt.Errorf("whose process the client is: %w", err)
	}
	return uid, nil
}

// Known reports whether User can know the clients of a listener of a network, "unix" or
// "tcp".
func Known(network string) bool {
	return network == "unix" && knowsUnix || network == "tcp" && knowsTCP
}
