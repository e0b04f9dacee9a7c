//go:build !linux

package proxy

import "net"

// hasArrived is not known here. It does as soon as it is sent, as a rule.
func hasArrived(*net.TCPConn) bool { return true }
