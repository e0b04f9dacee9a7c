package ssm

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/xtaci/smux"
	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm/channel"
)

const (
	// maxUnread and maxUnsent limit the queues of a connection.
	maxUnread, maxUnsent = 256 << 10, 64 << 10
	// checkInterval is how often it is checked whether a client that does not read holds up
	// others.
	checkInterval = time.Second
)

// conn is a connection to the database: a stream of the multiplexer. It has queues, since
// streams have no flow control, and since a write to one may use its bytes after it has timed
// out.
type conn struct {
	*session
	stream  *smux.Stream
	in, out queue
	reads   deadline
	writes  deadline
}

// dial opens a connection.
func (s *session) dial(ctx context.Context) (net.Conn, error) {
	var stream *smux.Stream
	var err error
	opened := make(chan struct{})
	if !s.task(func() {
		defer close(opened)
		stream, err = s.mux.OpenStream()
	}) {
		return nil, s.explain(s.err)
	}
	select {
	case <-opened:
		if err != nil {
			return nil, s.cause(err)
		}
		return s.newConn(stream)
	case <-ctx.Done():
		s.task(func() {
			if <-opened; err == nil {
				stream.Close()
			}
		})
		return nil, ctx.Err()
	}
}

func (s *session) newConn(stream *smux.Stream) (net.Conn, error) {
	c := &conn{session: s, stream: stream, in: queue{limit: maxUnread}, out: queue{limit: maxUnsent}}
	if s.task(c.receive) && s.task(c.transmit) {
		return c, nil
	}
	return nil, s.explain(s.err)
}

// cause returns the error of a stream's failure.
func (s *session) cause(err error) error {
	switch ended := s.channel.Err(); {
	case errors.Is(ended, channel.ErrClosed) || s.ctx.Err() != nil:
		err = ErrStopped
	case ended != nil:
		err = ended
	case errors.Is(err, ErrStuck):
	default:
		err = errMux
	}
	return s.explain(err)
}

// receive copies from the stream to the queue of Read.
func (c *conn) receive() {
	n, err := c.stream.WriteTo(queueWriter{c})
	var end error
	switch {
	case err != nil && c.in.isClosed(): // by Close
		return
	case err != nil:
		end = c.cause(err)
		if errors.Is(err, ErrStuck) {
			c.log.Warn("connection closed", zap.Error(ErrStuck))
		}
		c.out.close(end)
	case n == 0 && c.takeRefused():
		end = c.connectError(c.info.Target)
	default:
		end = io.EOF
	}
	c.in.finish(end)
}

// takeRefused reports whether the agent has announced that it could not connect a stream. Its
// flag arrives before the end of the stream.
func (s *session) takeRefused() bool {
	for {
		n := s.refused.Load()
		if n == 0 || s.refused.CompareAndSwap(n, n-1) {
			return n > 0
		}
	}
}

// queueWriter writes to the queue of Read.
type queueWriter struct{ *conn }

func (w queueWriter) Write(p []byte) (int, error) { return w.in.write(p, nil, w.checkStuck) }

// checkStuck returns ErrStuck if other clients have waited too long for this one.
func (c *conn) checkStuck(waited time.Duration) error {
	limit := cmp.Or(c.stuckAfter, stuckAfter)
	if waited < limit {
		return nil
	}
	blocked := c.channel.Stats().Blocked
	if blocked.IsZero() || time.Since(blocked) < limit || c.mux.NumStreams() < 2 {
		return nil
	}
	return ErrStuck
}

// transmit copies from the queue of Write to the stream, and closes the stream.
func (c *conn) transmit() {
	defer c.stream.Close()
	for {
		data, err := c.out.take()
		if err != nil {
			return
		}
		if _, err := c.stream.Write(data); err != nil {
			c.out.close(c.cause(err))
			return
		}
	}
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) { return c.in.read(p, &c.reads) }

// Write implements net.Conn. It returns when the bytes are in the queue.
func (c *conn) Write(p []byte) (int, error) { return c.out.write(p, &c.writes, nil) }

// Close closes the connection. Bytes that were written are still sent.
func (c *conn) Close() error {
	c.in.close(net.ErrClosed)
	c.out.finish(io.EOF)
	return nil
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	c.reads.set(t)
	c.writes.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.reads.set(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.writes.set(t)
	return nil
}

// LocalAddr returns the target.
func (c *conn) LocalAddr() net.Addr { return addr(c.info.Target) }

// RemoteAddr returns the host and port of the database.
func (c *conn) RemoteAddr() net.Addr { return addr(net.JoinHostPort(c.Host, c.Port)) }

// addr is an address that is reached through Session Manager.
type addr string

func (addr) Network() string { return "ssm" }

func (a addr) String() string { return string(a) }
