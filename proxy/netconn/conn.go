package netconn

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// abortTimeout limits how long Abort waits for the peer to acknowledge what was sent.
	abortTimeout = time.Second
	// pollTimeout is the read timeout where the socket cannot be polled.
	pollTimeout = time.Millisecond
)

// Conn is a connection with or without TLS, and the socket below.
type Conn struct {
	net.Conn // the TLS connection, or the socket
	socket   *Socket
	plain    bool
	buffer   tlsBuffer   // of the TLS connection
	closed   atomic.Bool // by CloseWrite
	unread   []byte      // the next Read returns it
}

// New returns a connection without TLS.
func New(conn net.Conn) *Conn { return newConn(conn, plainIO.Load()) }

func newConn(conn net.Conn, plain bool) *Conn {
	socket := newSocket(conn, plain)
	return &Conn{Conn: socket, socket: socket, plain: plain}
}

// Socket returns the socket, below TLS if there is any.
func (c *Conn) Socket() *Socket { return c.socket }

// StartTLS performs the handshake of conn, which must use c's socket. Bytes that were
// put back by Unread are part of the handshake. From then on c reads and writes through
// conn. If the handshake fails, c stays without TLS.
func (c *Conn) StartTLS(ctx context.Context, conn *tls.Conn) error {
	c.socket.unread, c.unread = c.unread, nil
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	c.Conn, c.buffer = conn, newTLSBuffer(conn, c.plain)
	return nil
}

// ConnectionState returns details of the TLS connection, or false if there is none.
func (c *Conn) ConnectionState() (state tls.ConnectionState, ok bool) {
	conn, ok := c.Conn.(*tls.Conn)
	if !ok {
		return tls.ConnectionState{}, false
	}
	return conn.ConnectionState(), true
}

// Encrypted reports whether the connection uses TLS.
func (c *Conn) Encrypted() bool { return c.Conn != net.Conn(c.socket) }

// Read implements net.Conn. In the socket's polling mode it holds memory for TLS
// records only until it returns an error, such as ErrWouldBlock.
func (c *Conn) Read(b []byte) (int, error) {
	if len(c.unread) > 0 {
		n := copy(b, c.unread)
		c.unread = c.unread[n:]
		return n, nil
	}
	if !c.socket.polling {
		return c.Conn.Read(b)
	}
	c.buffer.attachBuffer()
	n, err := c.Conn.Read(b)
	if err != nil {
		c.buffer.releaseBuffer()
	}
	return n, err
}

// Unread puts bytes back: they are the first that the next Read returns.
func (c *Conn) Unread(b []byte) { c.unread = slices.Concat(b, c.unread) }

// ReadAhead waits until there is something to read. It reads one byte and puts it back.
func (c *Conn) ReadAhead() error {
	if len(c.unread) > 0 {
		return nil
	}
	var b [1]byte
	n, err := c.Conn.Read(b[:])
	c.unread = b[:n]
	return err
}

// DrainPending passes to handle what has already arrived, and does not wait for more.
// It returns the error of a connection that has failed or ended.
func (c *Conn) DrainPending(handle func(b []byte)) error {
	if c.socket.raw.enabled() {
		c.socket.SetPolling(true)
		defer c.socket.SetPolling(false)
	} else {
		c.SetReadDeadline(time.Now().Add(pollTimeout))
		defer c.SetReadDeadline(time.Time{})
	}
	buffer := GetBuffer()
	defer PutBuffer(buffer)
	for {
		n, err := c.Read(buffer[:])
		handle(buffer[:n])
		more := err == nil
		if errors.Is(err, ErrWouldBlock) {
			more, err = c.socket.raw.poll()
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		case !more:
			return nil
		}
	}
}

// NoUnreadData reports whether everything that the peer has sent is known to be read.
// False may also mean that it is not known, as with TLS. It must not be called during
// a read.
func (c *Conn) NoUnreadData() bool {
	if !c.socket.raw.enabled() || c.Encrypted() || len(c.unread) > 0 {
		return false
	}
	arrived, err := c.socket.raw.poll()
	return err == nil && (!arrived || c.socket.raw.atEOF())
}

// ReadError maps err of a Read to ECONNRESET if it is an EOF after a reset. Only the
// first system call on a connection that was reset reports that. If it was a write, the
// next read returns EOF.
func (c *Conn) ReadError(err error) error {
	if c.socket.isTCP() && IsClosed(err) && !c.closed.Load() && isReset(c.socket) {
		return syscall.ECONNRESET
	}
	return err
}

// CloseWrite sends what a peer sends that closes: TLS's close_notify, and a FIN. Reading
// goes on. The FIN is for servers that look for it while they are at work
// (client_connection_check_interval). On a broken connection it has no effect.
func (c *Conn) CloseWrite() error {
	c.closed.Store(true)
	err := closeWrite(c.Conn)
	if c.Encrypted() {
		err = errors.Join(err, c.socket.CloseWrite())
	}
	return err
}

// Abort closes the connection with a reset and without TLS's close_notify, like a peer that
// has crashed. cause is why the connection failed that this one is relayed to.
//
// A reset discards what the peer has not acknowledged. Abort closes gracefully instead if
// that is still so after a second, or if cause is that the proxy closed the other connection.
func (c *Conn) Abort(cause error) {
	tcp, ok := c.socket.NetConn().(*net.TCPConn)
	if !ok || errors.Is(cause, net.ErrClosed) || !waitSendQueueEmpty(c.socket, abortTimeout) {
		c.Close()
		return
	}
	_ = tcp.SetLinger(0)
	tcp.Close()
}
