//go:build !linux

package netconn

import (
	"net"
	"time"
)

// isReset returns false: here only errors show a reset.
func isReset(*net.TCPConn) bool { return false }

// waitSendQueueEmpty returns false: the send queue is not known here. On some of these
// systems a reset even discards what the peer has received but not read.
func waitSendQueueEmpty(*net.TCPConn, time.Duration) bool { return false }
