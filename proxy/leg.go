package proxy

import (
	"errors"
	"net"
)

// leg is one side of a session: what is read and written, and the socket that
// is underneath if that is TLS.
type leg struct {
	net.Conn
	socket net.Conn
}

// plain is a leg without TLS.
func plain(socket net.Conn) leg { return leg{Conn: socket, socket: socket} }

// closeWrite says that no more comes, as a peer that closes does: with TLS's
// close_notify, and with a FIN, which a server that is at work looks for
// (client_connection_check_interval). It is of no effect on a connection that is
// broken already.
func (l leg) closeWrite() {
	halfClose(l.Conn)
	if l.socket != l.Conn {
		halfClose(l.socket)
	}
}

func halfClose(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// breakOff ends the connection because the other side's has failed with cause, as
// a peer does that crashed: TCP's RST, and no word in TLS. A reset throws away what
// has not been acknowledged yet; if there is any of that, or if it was us who
// closed the other side, the connection is closed in order instead.
func (l leg) breakOff(cause error) {
	tcp, ok := l.socket.(*net.TCPConn)
	if !ok || errors.Is(cause, net.ErrClosed) || !allAcknowledged(tcp) {
		l.Close()
		return
	}
	_ = tcp.SetLinger(0)
	tcp.Close()
}
