package netconn

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// ErrWouldBlock is the error of a read in polling mode that would have to wait. It is
// a temporary net.Error: after any other error a tls.Conn fails all further reads
// (readRecordOrCCS in crypto/tls/conn.go).
var ErrWouldBlock net.Error = wouldBlockError{}

type wouldBlockError struct{}

func (wouldBlockError) Error() string   { return "no data available" }
func (wouldBlockError) Timeout() bool   { return false }
func (wouldBlockError) Temporary() bool { return true }

// IsClosed reports whether the peer has closed its end, with or without TLS's
// close_notify.
func IsClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// IsHangup reports whether the peer has closed or reset the connection. After a reset, a write
// returns EPIPE, and on Windows ECONNABORTED.
func IsHangup(err error) bool {
	return IsClosed(err) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED)
}

// IsDisconnect reports whether the connection has ended, no matter which side ended it
// or how.
func IsDisconnect(err error) bool {
	return IsHangup(err) || errors.Is(err, net.ErrClosed)
}

// IsTimeout reports whether a deadline has passed, of a context or of a connection, or
// the system has given up on a peer that does not answer.
func IsTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
