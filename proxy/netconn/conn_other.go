//go:build !linux

package netconn

import "time"

// isReset returns false: here only errors show a reset.
func isReset(*Socket) bool { return false }

// waitSendQueueEmpty returns false: the send queue is not known here. On some of these
// systems a reset even discards what the peer has received but not read.
func waitSendQueueEmpty(*Socket, time.Duration) bool { return false }
