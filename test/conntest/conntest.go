// Package conntest provides what tests of connections share. It imports nothing but Go's library,
// so that all tests can import it, those of package netconn and of other modules included.
package conntest

import (
	"bytes"
	"net"
	"testing"
	"time"
)

// timeout bounds the use of a connection. It expires only in a test that fails.
const timeout = 2 * time.Minute

// TCPPair returns both ends of a TCP connection. They are closed at the end of the test.
func TCPPair(t testing.TB) (ours, theirs *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialed, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialed.Close() })
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close() })
	accepted.SetDeadline(time.Now().Add(timeout))
	dialed.SetDeadline(time.Now().Add(timeout))
	return accepted.(*net.TCPConn), dialed.(*net.TCPConn)
}

// Serve serves each connection to an address of loopback with handle, which closes it, until
// the end of the test.
func Serve(t testing.TB, handle func(net.Conn)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go Accept(listener, handle)
	return listener.Addr().String()
}

// Accept serves each connection to a listener with handle, which closes it, until the listener is
// closed.
func Accept(listener net.Listener, handle func(net.Conn)) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go handle(conn)
	}
}

// Script is a connection whose peer has sent everything in advance.
type Script struct {
	In  *bytes.Reader // from the peer
	Out bytes.Buffer  // to the peer
}

// NewScript returns a connection whose peer has sent input.
func NewScript(input []byte) *Script { return &Script{In: bytes.NewReader(input)} }

func (s *Script) Read(b []byte) (int, error)       { return s.In.Read(b) }
func (s *Script) Write(b []byte) (int, error)      { return s.Out.Write(b) }
func (s *Script) Close() error                     { return nil }
func (s *Script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *Script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *Script) SetDeadline(time.Time) error      { return nil }
func (s *Script) SetReadDeadline(time.Time) error  { return nil }
func (s *Script) SetWriteDeadline(time.Time) error { return nil }
