package proxy

import (
	"errors"
	"net"
	"os"
	"time"
)

// longAgo is a deadline for reads that take what TLS has read ahead, and no more.
var longAgo = time.Unix(1, 0)

// arrived takes note of what the server has said while it was idle, without waiting
// for more. The error is that of a connection that has ended, or will in a moment.
func (u *upstream) arrived() error {
	defer u.SetReadDeadline(time.Time{})
	buffer := buffers.Get().(*[copyBuffer]byte)
	defer buffers.Put(buffer)
	for framing := &u.spare.framing; ; {
		deadline := longAgo
		if tcp, ok := u.socket.(*net.TCPConn); ok {
			if wait := arrivalTime(tcp); wait > 0 {
				deadline = time.Now().Add(wait)
			}
		}
		u.SetReadDeadline(deadline)
		n, err := u.Read(buffer[:])
		framing.scan(buffer[:n])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && framing.idle():
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errNotReady
		case err != nil:
			return err
		}
	}
}
