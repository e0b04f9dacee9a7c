package proxy

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pool"
	"github.com/iamproxy/iamproxy/proxy/relay"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

// relay copies both ways until one side ends, delivers what is in flight, and ends the other
// side alike. No byte is added. A reusable connection that the client has left in order is
// not ended.
//
// An event loop copies until one side ends. If there is none, or if the connection is reusable,
// two goroutines copy. After a new login neither is the login's: its stack has grown.
func (s *session) relay(server *upstream.Conn) {
	s.sessionOpened(server)
	up := &upward{Direction: relay.Direction{Bytes: &s.up}, done: make(chan struct{})}
	down := &relay.Direction{Bytes: &s.down}
	stopClosing := context.AfterFunc(s.proxy.ctx, func() { s.client.Close() })
	finish := func() {
		defer s.end()
		defer stopClosing()
		s.finishRelay(server, up, down)
	}
	if s.pooled != nil {
		up.release = s.pooled.NewRelease()
	}
	switch {
	case s.reused:
		finish()
	case s.pooled != nil || !relay.Start(s.client, server.Conn, &up.Direction, down, finish):
		go finish()
	}
}

// finishRelay copies what the event loop has left, or everything.
func (s *session) finishRelay(server *upstream.Conn, up *upward, down *relay.Direction) {
	var first relay.Termination
	if up.Ended() {
		first.Record(&up.Direction, relay.Client, relay.Server)
	} else if down.Ended() {
		first.Record(down, relay.Server, relay.Client)
	}
	go s.copyUp(server, &first, up)
	s.copyDown(server, &first, up, down)
	<-up.done
	s.sessionEnded(&first, up, down)
	if up.Stopped {
		s.proxy.removeSession(s)
		s.linger() // if the client is still connected
	}
}

// sessionOpened records and logs that the session has begun.
func (s *session) sessionOpened(server *upstream.Conn) {
	p := s.proxy
	s.timings.At = time.Now()
	s.timings.Total = s.timings.At.Sub(s.admittedAt)
	p.sessions.setServer(s, server)
	p.recorder.SessionOpened(s.timings)
	if p.Observe != nil {
		p.Observe(s.timings)
	}
	took, attempts := zap.Object("took_s", s.timings), zap.Int("attempts", s.timings.Attempts)
	if s.reused {
		took, attempts = zap.Skip(), zap.Skip()
	}
	s.log(zap.InfoLevel, "session opened",
		logging.OptionalString("application_name", s.applicationName),
		zap.Stringer("server", server.RemoteAddr()),
		logging.OptionalString("client_tls", s.clientTLSVersion()),
		logging.OptionalString("client_cert", certificateName(s.clientCertificate())),
		zap.Float64("duration_s", s.timings.Total.Seconds()),
		took, attempts,
		ifTrue("pooled", s.reused),
		s.event(logging.Connected, s.openedDetails))
}

// openedDetails returns the details of a new session for the console.
func (s *session) openedDetails() []string {
	details := []string{s.applicationName, s.peer, text.Duration(s.timings.Total)}
	switch {
	case s.reused:
		details = append(details, "pooled")
	case s.timings.Attempts > 1:
		details = append(details, text.Plural(s.timings.Attempts, "attempt"))
	}
	return details
}

// sessionEnded releases the server's connection, and logs how the session ended.
func (s *session) sessionEnded(first *relay.Termination, up *upward, down *relay.Direction) {
	by, how := string(first.Side), string(first.Cause())
	switch {
	case s.proxy.ctx.Err() != nil:
		by, how = "proxy", "shut down"
	case up.Stopped, relay.TerminatedCleanly(&up.Direction, down):
		by, how = "client", terminated
	}
	cause := zap.Skip()
	if how == string(relay.Broke) || how == string(relay.Vanished) {
		cause = zap.Error(first.Err)
	}
	duration := time.Since(s.began)
	kept := s.release(up.release)
	s.log(zap.InfoLevel, "session ended",
		zap.String("by", by), zap.String("how", how),
		zap.Float64("duration_s", duration.Seconds()),
		zap.Int64("bytes_up", s.up.Load()), zap.Int64("bytes_down", s.down.Load()),
		cause,
		ifTrue("kept", kept),
		s.event(logging.Disconnected, func() []string {
			details := []string{"after " + text.Duration(duration), text.Bytes(s.up.Load()) + " up", text.Bytes(s.down.Load()) + " down"}
			if by != string(relay.Client) || how != terminated {
				details = append(details, "by "+by+": "+how)
			}
			return details
		}))
}

// terminated is the termination of a session whose client has sent Terminate.
const terminated = "terminated"

// ifTrue is a field that is absent if the value is false.
func ifTrue(key string, value bool) zap.Field {
	if !value {
		return zap.Skip()
	}
	return zap.Bool(key, true)
}

// upward is the direction to the server, which has its own goroutine. It may be read
// once done is closed.
type upward struct {
	relay.Direction
	done    chan struct{}
	release *pool.Release // nil if the connection cannot be reused
}

// copyUp copies from the client. When the client closes its side, so does the proxy towards
// the server, like the client itself; the answers to its requests may still be on their way.
func (s *session) copyUp(server *upstream.Conn, first *relay.Termination, up *upward) {
	defer close(up.done)
	if up.release == nil {
		up.Copy(server.Conn, s.client, nil)
	} else if up.release.CopyUp(&up.Direction, s.client); up.Stopped {
		return
	}
	first.Record(&up.Direction, relay.Client, relay.Server)
	switch {
	case up.WriteErr != nil:
		// The other direction reads why: the server's last message.
	case netconn.IsClosed(up.ReadErr):
		_ = server.CloseWrite()
	default:
		server.Abort(up.ReadErr)
	}
}

// copyDown copies from the server. Its end is the end of the session: the client has
// lingerTime to read the last of it.
func (s *session) copyDown(server *upstream.Conn, first *relay.Termination, up *upward, down *relay.Direction) {
	if up.release == nil {
		down.Copy(s.client, server.Conn, nil)
	} else if up.release.CopyDown(down, s.client); down.Stopped {
		s.closeClient()
		return
	}
	s.removeCancelKey() // another session may have the server's process ID next
	first.Record(down, relay.Server, relay.Client)
	switch {
	case down.WriteErr != nil:
		// What the client sent before it left is still on its way up.
		select {
		case <-up.done:
		case <-time.After(lingerTime):
		}
		server.Abort(down.WriteErr)
	case netconn.IsClosed(down.ReadErr):
		s.lingerWith(up)
	default:
		s.client.Abort(down.ReadErr)
	}
	server.Close()
	s.client.Close()
}

// closeClient closes the connection to a client that has sent Terminate, which need not wait
// for the server's reset. If there may be data that the client has not read, only the writing
// side is closed.
func (s *session) closeClient() {
	if s.client.NoUnreadData() {
		s.client.Close()
		return
	}
	_ = s.client.CloseWrite()
}

// lingerWith lingers while the other direction reads from the client. The client can connect again
// as soon as it has read the end, unless too many sessions are at that point.
func (s *session) lingerWith(up *upward) {
	a := &s.proxy.admission
	leave, ok := a.enter(&a.ending, maxEnding)
	defer leave()
	if ok {
		s.makeRoom()
	}
	s.client.SetDeadline(time.Now().Add(lingerTime))
	_ = s.client.CloseWrite()
	select {
	case <-up.done:
		s.linger()
	case <-time.After(lingerTime):
	}
}
