package proxy

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

const (
	// resetTimeout bounds the reset of a connection.
	resetTimeout = 5 * time.Second
	// checkAfter is how long a connection is idle until the server is asked whether
	// it is still there, and checkTimeout how long that has to answer.
	checkAfter   = time.Second
	checkTimeout = time.Second
)

// resetRequest makes a session one that has just begun. Of a role that ALTER ROLE ...
// SET role gives at a login, the manual says that RESET ROLE brings it back, and
// nothing of DISCARD ALL, which does so in 15.18. In one go with it, it costs nothing.
// https://www.postgresql.org/docs/current/sql-set-role.html
var resetRequest = slices.Concat(pgwire.Encode(&pgproto3.Query{String: "DISCARD ALL"}), pgwire.Encode(&pgproto3.Query{String: "RESET ROLE"}))

// resetAnswers are the ReadyForQuery in answer to that.
const resetAnswers = 2

// lifeRequest changes nothing.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
var lifeRequest = pgwire.Encode(&pgproto3.Sync{})

// reuse returns a connection that another client has left, and that is alive, or
// nil: then a new one is needed. What was found dead nobody has to know.
func (s *session) reuse(wish pgwire.StartupMessage) *upstream {
	p := s.proxy
	if !p.pool.on() || wish.IsReplication() {
		return nil
	}
	for kind := wish.PoolKey(); ; {
		server := p.pool.take(kind)
		if server == nil {
			return nil
		}
		err := s.check(server, wish)
		if err == nil {
			s.pooled = true
			return server
		}
		s.log().Debug("pooled connection thrown away", zap.Error(err), zap.Duration("idle", time.Since(server.spare.idleSince)))
		s.abandon(server)
		if netconn.IsTimeout(err) { // and so would the others
			retire(p.pool.drop(server.address))
		}
	}
}

// check is the error of a connection that is of no use any more: it has ended, or
// leads to a server that takes no writes where one has to.
func (s *session) check(server *upstream, wish pgwire.StartupMessage) error {
	if err := server.arrived(); err != nil {
		return err
	}
	within := min(checkTimeout, s.proxy.connectTimeout()/4) // a login has to have its time, too
	if time.Since(server.spare.idleSince) > checkAfter {
		if err := server.exchange(lifeRequest, 1, within); err != nil {
			return err
		}
	}
	if !s.proxy.Writer {
		return nil
	}
	greeting := &server.spare.greeting
	s.reported = map[string]string{
		inHotStandby:    greeting.value(inHotStandby),
		readOnlyDefault: greeting.value(readOnlyDefault),
	}
	s.held = nil // of a connection that was thrown away
	server.SetDeadline(time.Now().Add(within))
	defer server.SetDeadline(time.Time{})
	if err := s.checkTarget(server, wish); err != nil {
		return err
	}
	server.spare.framing.Scan(s.held) // what came beside the answer
	s.held = nil
	return nil
}

// mayKeep notes of a new connection what the next client has to know, if it can be
// another client's.
func (s *session) mayKeep(server *upstream, wish pgwire.StartupMessage) {
	p := s.proxy
	if !p.pool.on() || wish.IsReplication() {
		return
	}
	greeting, ok := newGreeting(s.held)
	if !ok {
		s.log().Debug("connection will not be kept", zap.String("reason", "the server has said too much, or has a cancel key of a kind that is not known"))
		return
	}
	spare := &spare{kind: wish.PoolKey(), greeting: greeting, loggedIn: time.Now()}
	spare.framing = pgwire.NewBackendTracker(spare.greeting.note)
	server.spare = spare
	p.pool.enter()
}

const timeIsUp = "its time is up, or the proxy stops"

// keep makes a connection that has been a session's the next client's, if it can, and
// closes it otherwise. parting is how the session ended.
func (s *session) keep(server *upstream, parting *parting) (kept bool) {
	if server.spare == nil {
		return false
	}
	c := &s.proxy.pool
	reason := parting.why
	if s.forget() && reason == "" {
		reason = "a cancel request was on its way"
	}
	if reason != "" {
		s.log().Debug("connection not kept", zap.String("reason", reason))
		s.abandon(server)
		return false
	}
	s.proxy.ended(s)
	server.spare.greeting.withoutNotices() // they were for the first client
	coming := c.begin(server)
	if coming == nil {
		s.log().Debug("connection not kept", zap.String("reason", timeIsUp))
		retire([]*upstream{server})
		return false
	}
	err := server.exchange(resetRequest, resetAnswers, resetTimeout)
	out := c.finish(coming, err == nil)
	switch {
	case err != nil:
		s.log().Debug("connection not kept", zap.String("reason", "it cannot be reset"), zap.Error(err))
		server.Close()
		return false
	case out == server:
		s.log().Debug("connection not kept", zap.String("reason", timeIsUp))
	}
	if out != nil {
		retire([]*upstream{out})
	}
	return out != server
}

// errNotReady is of a server that does not answer as one that was idle.
var errNotReady = errors.New("the server is not as it should be")

// exchange has the server do something that ReadyForQuery is the answer to, that
// many times, and takes note of all it says. Anything but success is an error.
func (u *upstream) exchange(request []byte, answers int64, within time.Duration) error {
	framing := u.spare.framing
	framing.Reset()
	u.SetDeadline(time.Now().Add(within))
	if _, err := u.Write(request); err != nil {
		return err
	}
	buffer := netconn.GetBuffer()
	defer netconn.PutBuffer(buffer)
	for framing.Ready() < answers {
		n, err := u.Read(buffer[:])
		framing.Scan(buffer[:n])
		switch {
		case framing.Failed():
			return fmt.Errorf("%w: it says no", errNotReady)
		case err != nil:
			return err
		case framing.Lost():
			return errNotReady
		}
	}
	if !framing.Idle() || framing.Ready() != answers {
		return errNotReady
	}
	u.SetDeadline(time.Time{})
	return nil
}

// retire ends connections that are idle, as a client would.
func retire(servers []*upstream) {
	for _, server := range servers {
		server.SetWriteDeadline(time.Now().Add(lingerTime))
		_, _ = server.Write(pgwire.Encode(&pgproto3.Terminate{}))
		server.Close()
	}
}

// greet is what the client is told first, and has a cancel request with the key
// that is in it lead to the server's own.
func (s *session) greet(server *upstream) []byte {
	greeting := &server.spare.greeting
	s.remember(greeting.renew(), greeting.key, server)
	return greeting.said
}

// abandon closes a connection that has come to nothing.
func (s *session) abandon(server *upstream) {
	if server.spare != nil {
		s.proxy.pool.leave()
	}
	server.Close()
}
