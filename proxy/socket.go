package proxy

import "net"

// socket is a connection as the system has it, below TLS if there is any. Where
// its descriptor can, it waits for bytes without a buffer to read them into.
type socket struct {
	net.Conn
	descriptor
}

func newSocket(conn net.Conn) *socket {
	s := &socket{Conn: conn}
	s.init(conn)
	return s
}

// CloseWrite says that no more comes.
func (s *socket) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// errNotYet is that of a read that would have to wait. It is a temporary one:
// behind any other, a tls.Conn reads no more.
var errNotYet net.Error = notYet{}

type notYet struct{}

func (notYet) Error() string   { return "nothing has arrived" }
func (notYet) Timeout() bool   { return false }
func (notYet) Temporary() bool { return true }
