//go:build !linux && !darwin && !freebsd

package peercred

import "net"

const supportsUnix, supportsTCP = false, false

func unixUser(*net.UnixConn) (uint32, error) { return 0, errUnknown }

func tcpUser(*net.TCPConn) (uint32, error) { return 0, errUnknown }
