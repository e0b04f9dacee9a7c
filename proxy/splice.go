package proxy

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// lingerTime is how long a client gets to read the last words sent to it.
const lingerTime = time.Second

// tookLeave reports whether the session ended with the client's Terminate, after
// the server had said that it was ready and nothing else. A server that is told
// so may well be the first to close.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-TERMINATION
func tookLeave(up, down flow) bool {
	idle := !down.any || string(down.last[:5]) == "Z\x00\x00\x00\x05"
	return idle && string(up.last[1:]) == "X\x00\x00\x00\x04"
}

// flow is one direction of a session: what went that way, and how it ended.
type flow struct {
	count    *atomic.Int64 // of bytes
	any      bool          // there were some
	last     [6]byte       // the last of them
	readErr  error         // of the side it comes from; nil or io.EOF if that side ended it
	writeErr error         // of the side it goes to
	kept     bool          // it stopped, and the server is another client's next
}

// passed takes note of what went that way.
func (f *flow) passed(b []byte) {
	f.count.Add(int64(len(b)))
	f.any = true
	tail := b[max(0, len(b)-len(f.last)):]
	copy(f.last[:], f.last[len(tail):])
	copy(f.last[len(f.last)-len(tail):], tail)
}

// splice copies both ways until one side ends, delivers what is in flight, and
// ends the other side alike. No byte is added. A server that the client has left in
// order is not ended but kept, where that is wanted (parting.go).
func (s *session) splice(server *upstream) {
	s.opened(server)
	defer context.AfterFunc(s.proxy.ctx, func() { s.client.Close() })()

	var first firstEnd
	up := upward{flow: flow{count: &s.up}, done: make(chan struct{}), parting: part(server)}
	go s.copyUp(server, &first, &up)
	down := s.copyDown(server, &first, &up)
	<-up.done
	s.ended(server, &first, &up, down)
	if up.kept {
		s.linger() // if it is not gone yet
	}
}

// opened has the session on the lists, and writes down that it has begun.
func (s *session) opened(server *upstream) {
	s.took.At = time.Now()
	s.took.Total = s.took.At.Sub(s.asked)
	s.proxy.opened(s, server)
	s.log().Info("session opened",
		zap.String("application_name", s.application),
		zap.Stringer("server", server.RemoteAddr()),
		zap.String("client_tls", s.tlsVersion()),
		zap.Duration("after", s.took.Total),
		zap.Object("took_s", s.took),
		onlyIf(s.pooled, "pooled"))
}

// ended keeps the server, if that is wanted, and writes down what became of the
// session.
func (s *session) ended(server *upstream, first *firstEnd, up *upward, down flow) {
	by, how := first.side, manner(first.err)
	switch {
	case s.proxy.ctx.Err() != nil:
		by, how = "proxy", "shut down"
	case up.kept, tookLeave(up.flow, down):
		by, how = "client", "terminated"
	}
	after := time.Since(s.began)
	kept := s.keep(server, up.parting)
	s.log().Info("session ended",
		zap.String("by", by), zap.String("how", how),
		zap.Duration("after", after),
		zap.Int64("bytes_up", s.up.Load()), zap.Int64("bytes_down", s.down.Load()),
		zap.NamedError("error", first.unusual(how)),
		onlyIf(kept, "kept"))
}

// onlyIf is a field that says true, or is not there.
func onlyIf(yes bool, name string) zap.Field {
	if !yes {
		return zap.Skip()
	}
	return zap.Bool(name, true)
}

// upward is the direction to the server, which has a goroutine of its own.
type upward struct {
	flow                  // to be read after done
	done    chan struct{} // closed once nothing more goes up
	parting *parting      // nil if the server is nobody's after this session
}

// copyUp carries what the client says. When the client has closed, so does our
// side of the server's connection, as if it were the client's own; the answers
// to what it has asked may still be on their way.
func (s *session) copyUp(server *upstream, first *firstEnd, up *upward) {
	defer close(up.done)
	if up.parting == nil {
		up.pump(server.Conn, s.client, nil)
	} else if up.pump(server.Conn, s.client, func(b []byte) bool { return up.parting.leaves(b, server) }); up.kept {
		return
	}
	first.note(up.flow, "client", "server")
	switch {
	case up.writeErr != nil:
		// The other direction finds out why: the server's last words come there.
	case netconn.IsClosed(up.readErr):
		_ = server.CloseWrite()
	default:
		server.Abort(up.readErr)
	}
}

// copyDown carries what the server says. Its end is the end of the session: the
// client gets a moment to read the last of it.
func (s *session) copyDown(server *upstream, first *firstEnd, up *upward) flow {
	f := flow{count: &s.down}
	if up.parting == nil {
		f.pump(s.client, server.Conn, nil)
	} else if up.parting.pumpDown(&f, s.client, server); f.kept {
		s.letGo()
		return f
	}
	s.forget() // whoever has the server's process number next is a stranger
	first.note(f, "server", "client")
	switch {
	case f.writeErr != nil:
		// What the client said before it left is still to go up.
		select {
		case <-up.done:
		case <-time.After(lingerTime):
		}
		server.Abort(f.writeErr)
	case netconn.IsClosed(f.readErr):
		s.lingerWith(up)
	default:
		s.client.Abort(f.readErr)
	}
	server.Close()
	s.client.Close()
	return f
}

// letGo ends what goes to a client that took leave, so that it need not wait for what
// becomes of the server. It may have all that was said to it still to read, so that
// the connection is not closed with bytes of its unread.
func (s *session) letGo() {
	if s.client.NoUnreadData() {
		s.client.Close()
		return
	}
	_ = s.client.CloseWrite()
}

// linger ends what goes to the client, and waits for it to close its end:
// closing with bytes of its unread would be a reset, which can overtake an
// error message.
func (s *session) linger() {
	s.client.SetDeadline(time.Now().Add(lingerTime))
	_ = s.client.CloseWrite()
	_, _ = io.Copy(io.Discard, s.client)
}

// lingerWith does so while the other direction reads from the client, which is
// nobody else's then.
func (s *session) lingerWith(up *upward) {
	s.client.SetDeadline(time.Now().Add(lingerTime))
	_ = s.client.CloseWrite()
	select {
	case <-up.done:
		s.linger()
	case <-time.After(lingerTime):
	}
}

// pump copies from src to dst until one of them fails, or until something comes for
// which last, if there is one, returns true: that is not copied. It is no io.Copy
// since that leaves open whose failure it was, and has a buffer while there is nothing
// to copy.
func (f *flow) pump(dst, src *netconn.Conn, last func(b []byte) bool) {
	src.Socket().SetPolling(true)
	defer src.Socket().SetPolling(false)
	for f.move(dst, src, last) {
		if err := src.Socket().WaitReadable(); err != nil {
			f.readErr = src.ReadError(err)
			return
		}
	}
}

// move carries over what has arrived, and reports whether there may be more.
func (f *flow) move(dst, src *netconn.Conn, last func(b []byte) bool) (more bool) {
	buffer := netconn.GetBuffer()
	defer netconn.PutBuffer(buffer)
	for {
		n, err := src.Read(buffer[:])
		if f.kept = last != nil && last(buffer[:n]); f.kept {
			return false
		}
		if n > 0 {
			if _, f.writeErr = dst.Write(buffer[:n]); f.writeErr != nil {
				return false
			}
			f.passed(buffer[:n])
		}
		switch {
		case errors.Is(err, netconn.ErrWouldBlock):
			return true
		case err != nil:
			f.readErr = src.ReadError(err)
			return false
		}
	}
}

// firstEnd is how the session ended: what the other direction did about it is
// not worth a word.
type firstEnd struct {
	once sync.Once
	side string
	err  error
}

func (e *firstEnd) note(f flow, from, to string) {
	e.once.Do(func() {
		e.side, e.err = from, f.readErr
		if f.writeErr != nil {
			e.side, e.err = to, f.writeErr
		}
	})
}

// unusual is the error that the end's manner leaves to be told.
func (e *firstEnd) unusual(how string) error {
	if how == "broke" || how == "vanished" {
		return e.err
	}
	return nil
}

// manner is how a side ends whose connection has failed with err.
func manner(err error) string {
	switch {
	case netconn.IsClosed(err):
		return "closed"
	case netconn.IsDisconnect(err):
		return "reset"
	case netconn.IsTimeout(err) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH):
		return "vanished" // its system has left keep-alives or bytes without an answer
	default:
		return "broke"
	}
}
