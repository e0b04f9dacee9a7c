package netconn

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/iamproxy/iamproxy/internal/winsock"
)

// Socket is a connection below TLS. In polling mode, a reader can wait for data without
// a buffer to read it into. An event loop can take over the socket: see Watch.
type Socket struct {
	first   net.Conn // has the addresses
	raw     rawIO
	polling bool   // by SetPolling
	unread  []byte // put back by Conn.Unread, before TLS

	wrote   atomic.Bool // since UpdateUserTimeout
	unacked bool        // there were unacknowledged bytes then

	mu   sync.Mutex // guards the fields below
	conn net.Conn   // closed while a loop has the socket
	loop loopSocket
}

func newSocket(conn net.Conn, plain bool) *Socket {
	s := &Socket{first: conn, conn: conn}
	if !plain {
		s.raw.init(conn)
	}
	return s
}

// NetConn returns the connection of package net. It is closed while a loop has the socket.
func (s *Socket) NetConn() net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
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
		n, err := s.NetConn().Read(b)
		return n, winsock.POSIX(err)
	}
}

// Write implements net.Conn. While a loop has the socket, Write does not wait: the loop
// sends later what the socket has no room for.
func (s *Socket) Write(b []byte) (int, error) {
	if !s.wrote.Load() { // most writes only load, which does not contend between cores
		s.wrote.Store(true)
	}
	s.mu.Lock()
	if s.loop.active() {
		defer s.mu.Unlock()
		return s.loop.write(b)
	}
	conn, raw := s.conn, s.raw.enabled()
	s.mu.Unlock()
	if raw {
		return s.raw.write(b)
	}
	n, err := conn.Write(b)
	return n, winsock.POSIX(err)
}

// Flush sends what a loop had no room for.
func (s *Socket) Flush() error {
	if !s.raw.enabled() {
		return nil
	}
	_, err := s.raw.write(nil)
	return err
}

// Close implements net.Conn.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loop.active() {
		return s.loop.close()
	}
	return s.conn.Close()
}

// CloseWrite shuts down the writing side. No loop may have the socket.
func (s *Socket) CloseWrite() error { return closeWrite(s.NetConn()) }

// closeWrite does nothing to a connection that cannot be closed by halves.
func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// LocalAddr implements net.Conn.
func (s *Socket) LocalAddr() net.Addr { return s.first.LocalAddr() }

// RemoteAddr implements net.Conn.
func (s *Socket) RemoteAddr() net.Addr { return s.first.RemoteAddr() }

// SetDeadline implements net.Conn. It has no effect while a loop has the socket, like the
// other deadlines.
func (s *Socket) SetDeadline(t time.Time) error { return s.NetConn().SetDeadline(t) }

// SetReadDeadline implements net.Conn.
func (s *Socket) SetReadDeadline(t time.Time) error { return s.NetConn().SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (s *Socket) SetWriteDeadline(t time.Time) error { return s.NetConn().SetWriteDeadline(t) }

// isTCP reports whether the socket is one of TCP.
func (s *Socket) isTCP() bool {
	_, ok := s.first.(*net.TCPConn)
	return ok
}
