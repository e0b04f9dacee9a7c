package proxy

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
)

// leg is one side of a session: what is read and written, and the socket that
// is underneath if that is TLS.
type leg struct {
	net.Conn
	socket *socket
	closed atomic.Bool // by closeWrite
	ahead  []byte      // was read before it was wanted
}

func newLeg(s *socket) *leg { return &leg{Conn: s, socket: s} }

// Read reads what is ahead first.
func (l *leg) Read(b []byte) (int, error) {
	if len(l.ahead) == 0 {
		return l.Conn.Read(b)
	}
	n := copy(b, l.ahead)
	l.ahead = l.ahead[n:]
	return n, nil
}

// closeWrite says that no more comes, as a peer that closes does: with TLS's
// close_notify, and with a FIN, which a server that is at work looks for
// (client_connection_check_interval). It is of no effect on a connection that is
// broken already.
func (l *leg) closeWrite() {
	l.closed.Store(true)
	halfClose(l.Conn)
	if l.Conn != net.Conn(l.socket) {
		halfClose(l.socket)
	}
}

func halfClose(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// readError is what a read that failed with err is to be taken for. If a write has
// heard of a reset first, the read finds what looks like an ordinary end.
func (l *leg) readError(err error) error {
	if tcp, ok := l.socket.Conn.(*net.TCPConn); ok && ended(err) && !l.closed.Load() && gone(tcp) {
		return syscall.ECONNRESET
	}
	return err
}

// breakOff ends the connection because the other side's has failed with cause, as
// a peer does that crashed: TCP's RST, and no word in TLS. A reset throws away what
// has not been acknowledged yet; if there is any of that, or if it was us who
// closed the other side, the connection is closed in order instead.
func (l *leg) breakOff(cause error) {
	tcp, ok := l.socket.Conn.(*net.TCPConn)
	if !ok || errors.Is(cause, net.ErrClosed) || !acknowledged(tcp, lingerTime) {
		l.Close()
		return
	}
	_ = tcp.SetLinger(0)
	tcp.Close()
}
