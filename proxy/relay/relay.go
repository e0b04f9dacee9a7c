// Package relay copies the bytes of a session from one connection to another, and records how
// the session ended.
package relay

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// Direction is one direction of a session. Its fields may be read once Copy has returned.
type Direction struct {
	Bytes    *atomic.Int64 // counts what was copied; may be read at any time
	ReadErr  error         // of the source; nil if the destination failed or the hook stopped
	WriteErr error         // of the destination
	Stopped  bool          // the hook stopped the copying

	seen bool    // bytes were copied
	last [6]byte // the last of them
}

// Start starts to copy both directions of a session on an event loop, until one of them ends. Then
// it calls done in a new goroutine, and Copy goes on where the loop has stopped. Start reports
// false, and does not call done, if there is no loop or a direction has ended already.
func Start(client, server *netconn.Conn, up, down *Direction, done func()) bool {
	return netconn.Watch(
		netconn.Watched{Conn: client, Readable: func() bool { return up.copyAvailable(server, client, nil) }},
		netconn.Watched{Conn: server, Readable: func() bool { return down.copyAvailable(client, server, nil) }},
		done)
}

// Ended reports whether the direction has ended.
func (d *Direction) Ended() bool { return d.Stopped || d.ReadErr != nil || d.WriteErr != nil }

// Copy copies from src to dst until one of them fails, or until hook returns true for
// bytes, which are not copied then. hook may be nil; it is called with each chunk before it
// is sent. Copy does not use io.Copy, which does not report whose failure it was, and holds a
// buffer while there is nothing to copy.
func (d *Direction) Copy(dst, src *netconn.Conn, hook func(b []byte) (stop bool)) {
	if d.WriteErr == nil {
		d.WriteErr = dst.Socket().Flush()
	}
	if d.Ended() {
		return
	}
	src.Socket().SetPolling(true)
	defer src.Socket().SetPolling(false)
	for d.copyAvailable(dst, src, hook) {
		if err := src.Socket().WaitReadable(); err != nil {
			d.ReadErr = src.ReadError(err)
			return
		}
	}
}

// copyAvailable copies what has arrived, and reports whether there may be more.
func (d *Direction) copyAvailable(dst, src *netconn.Conn, hook func(b []byte) (stop bool)) (more bool) {
	buffer := netconn.GetBuffer()
	defer netconn.PutBuffer(buffer)
	for {
		n, err := src.Read(buffer[:])
		if d.Stopped = hook != nil && hook(buffer[:n]); d.Stopped {
			return false
		}
		if n > 0 {
			if _, d.WriteErr = dst.Write(buffer[:n]); d.WriteErr != nil {
				return false
			}
			d.count(buffer[:n])
		}
		switch {
		case errors.Is(err, netconn.ErrWouldBlock):
			return true
		case err != nil:
			d.ReadErr = src.ReadError(err)
			return false
		case dst.Socket().Congested():
			return true
		}
	}
}

func (d *Direction) count(b []byte) {
	d.Bytes.Add(int64(len(b)))
	d.seen = true
	tail := b[max(0, len(b)-len(d.last)):]
	copy(d.last[:], d.last[len(tail):])
	copy(d.last[len(d.last)-len(tail):], tail)
}

// TerminatedCleanly reports whether the client's last message was a Terminate, and the
// server's a ReadyForQuery. A server that receives a Terminate may well be the first to
// close the connection.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-TERMINATION
func TerminatedCleanly(up, down *Direction) bool {
	idle := !down.seen || string(down.last[:5]) == "Z\x00\x00\x00\x05"
	return idle && string(up.last[1:]) == "X\x00\x00\x00\x04"
}

// Side is one of the two connections of a session.
type Side string

const (
	Client Side = "client"
	Server Side = "server"
)

// Termination records which side ended the session, and why. Its zero value is a session that
// has not ended.
type Termination struct {
	Side Side
	Err  error

	once sync.Once
}

// Record records the end of a direction that copied from one side to the other, unless the
// other direction has ended before.
func (t *Termination) Record(d *Direction, from, to Side) {
	t.once.Do(func() {
		t.Side, t.Err = from, d.ReadErr
		if d.WriteErr != nil {
			t.Side, t.Err = to, d.WriteErr
		}
	})
}

// Cause is how a side's connection ended.
type Cause string

const (
	Closed   Cause = "closed"
	Reset    Cause = "reset"
	Vanished Cause = "vanished" // its system left keep-alives or bytes unanswered
	Broke    Cause = "broke"
)

// Cause returns how the side's connection ended.
func (t *Termination) Cause() Cause {
	switch {
	case netconn.IsClosed(t.Err):
		return Closed
	case netconn.IsDisconnect(t.Err):
		return Reset
	case netconn.IsTimeout(t.Err) || errors.Is(t.Err, syscall.EHOSTUNREACH) || errors.Is(t.Err, syscall.ENETUNREACH):
		return Vanished
	default:
		return Broke
	}
}
