package ssm

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
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
	sent    chan struct{} // closed when nothing is sent any more
}

// dial opens a connection.
func (s *session) dial(ctx context.Context) (net.Conn, error) {
	var stream *smux.Stream
	var err error
	opened := make(chan struct{})
	if s.mux.NumStreams() == 0 {
		s.refused.Store(0) // the connections were closed before
	}
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
	c := &conn{session: s, stream: stream, in: queue{limit: maxUnread}, out: queue{limit: maxUnsent}, sent: make(chan struct{})}
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	if s.task(c.receive) && s.task(c.transmit) {
		return c, nil
	}
	return nil, s.explain(s.err)
}

// cause returns the error of a stream's failure.
func (s *session) cause(err error) error {
	switch ended := s.channel.Err(); {
	case s.ctx.Err() != nil:
		err = ErrStopped
	case ended != nil && !errors.Is(ended, channel.ErrClosed):
		err = ended
	case errors.Is(err, smux.ErrTimeout):
		err = errStalled
	default:
		err = errMux
	}
	return s.explain(err)
}

// receive copies from the stream to the queue of Read.
func (c *conn) receive() {
	w := queueWriter{conn: c}
	n, err := c.stream.WriteTo(&w)
	if err != nil { // which may be returned before the data that has arrived
		c.stream.WriteTo(&w) //nolint:errcheck // likewise
	}
	switch {
	case err != nil && c.in.isClosed(): // by Close
	case err != nil:
		c.fail(c.cause(err))
	case n == 0 && c.takeRefused():
		c.in.finish(c.connectError(c.info.Target))
	default:
		c.in.finish(io.EOF)
	}
}

// fail ends reads after the data before err, and writes at once.
func (c *conn) fail(err error) {
	c.in.finish(err)
	c.out.close(err)
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

// queueWriter writes to the queue of Read. Data is dropped after the client has left or was found
// to be stuck: until the stream is closed, it would hold up other connections.
type queueWriter struct {
	*conn
	dropping bool
	crowded  time.Time // since when there are other connections, or zero
}

func (w *queueWriter) Write(p []byte) (int, error) {
	if w.dropping {
		return len(p), nil
	}
	_, err := w.in.write(p, nil, w.check)
	w.dropping = err != nil
	return len(p), nil
}

// check ends the connection with an error if the forward was stopped, or if other clients have
// waited too long for this one.
func (w *queueWriter) check(waited time.Duration) error {
	if w.ctx.Err() != nil {
		w.fail(w.explain(ErrStopped))
		return ErrStopped
	}
	if w.mux.NumStreams() < 2 {
		w.crowded = time.Time{}
		return nil
	}
	now := time.Now()
	if w.crowded.IsZero() {
		w.crowded = now
	}
	limit := cmp.Or(w.stuckAfter, stuckAfter)
	blocked := w.channel.Stats().Blocked
	if waited < limit || blocked.IsZero() || now.Sub(blocked) < limit || now.Sub(w.crowded) < limit {
		return nil
	}
	w.log.Warn("connection closed", zap.Error(ErrStuck))
	w.fail(w.explain(ErrStuck))
	return ErrStuck
}

// transmit copies from the queue of Write to the stream, and closes the stream.
func (c *conn) transmit() {
	defer func() {
		c.stream.Close()
		close(c.sent)
		c.mu.Lock()
		delete(c.conns, c)
		c.mu.Unlock()
	}()
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

// flush waits until the agent has acknowledged what closed connections have written.
func (s *session) flush(ctx context.Context) {
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range conns {
		if !c.out.isFinished() {
			continue
		}
		select {
		case <-c.sent:
		case <-ctx.Done():
		}
	}
	s.channel.Flush(ctx)
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
