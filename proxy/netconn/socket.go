package netconn

import (
	"net"
	"sync/atomic"
)

// Socket is a connection below TLS. In polling mode, a reader can wait for data without
// a buffer to read it into.
type Socket struct {
	net.Conn
	raw     rawIO
	polling bool   // by SetPolling
	unread  []byte // put back by Conn.Unread, before TLS

	wrote   atomic.Bool // since UpdateUserTimeout
	unacked bool        // there were unacknowledged bytes then
}

func newSocket(conn net.Conn, plain bool) *Socket {
	s := &Socket{Conn: conn}
	if !plain {
		s.raw.init(conn)
	}
	return s
}

// SetPolling switches polling mode on or off. In that mode, reads that would have to
// wait fail with ErrWouldBlock, and WaitReadable waits instead. Where there is no such
// mode, reads wait and WaitReadable does not. SetPolling must not be called during a
// read.
func (s *Socket) SetPolling(on bool) { s.polling = on && s.raw.enabled() }

// WaitReadable waits until there is something to read, if the socket is in polling
// mode.
func (s *Socket) WaitReadable() error {
	if !s.polling || len(s.unread) > 0 {
		return nil
	}
	return s.raw.wait()
}

// Read implements net.Conn.
func (s *Socket) Read(b []byte) (int, error) {
	switch {
	case len(s.unread) > 0:
		n := copy(b, s.unread)
		s.unread = s.unread[n:]
		return n, nil
	case s.raw.filled():
		return s.raw.take(b)
	case s.polling:
		return 0, ErrWouldBlock
	default:
		return s.Conn.Read(b)
	}
}

// Write implements net.Conn.
func (s *Socket) Write(b []byte) (int, error) {
	if !s.wrote.Load() { // most writes only load, which does not contend between cores
		s.wrote.Store(true)
	}
	if !s.raw.enabled() {
		return s.Conn.Write(b)
	}
	return s.raw.write(b)
}

// CloseWrite shuts down the writing side.
func (s *Socket) CloseWrite() error { return closeWrite(s.Conn) }

// closeWrite does nothing to a connection that cannot be closed by halves.
func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
