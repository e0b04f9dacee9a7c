package proxy

import (
	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/pool"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

// reuseConn returns a connection of the pool, or nil if there is none for the client.
func (s *session) reuseConn(startup pgwire.StartupMessage) *pool.Conn {
	p := s.proxy
	if !p.pool.Enabled() || startup.IsReplication() {
		return nil
	}
	return p.pool.Get(startup.PoolKey(), func(conn *pool.Conn) error {
		err := conn.Validate(p.connectTimeout()/4, p.RequireWritable) // a login needs its time, too
		if err != nil {
			s.log(zap.DebugLevel, "pooled connection discarded", zap.Error(err), zap.Float64("idle_s", conn.IdleTime().Seconds()))
		}
		return err
	})
}

// makeReusable returns a new connection as one that the pool can keep, or nil if it cannot.
func (s *session) makeReusable(server *upstream.Conn, startup pgwire.StartupMessage, reply []byte) *pool.Conn {
	p := s.proxy
	if !p.pool.Enabled() || startup.IsReplication() {
		return nil
	}
	conn, err := p.pool.New(server, startup.PoolKey(), reply)
	if err != nil {
		s.log(zap.DebugLevel, "connection not kept", zap.Error(err))
		return nil
	}
	return conn
}

// pooledReply returns the messages with which the session on a reusable connection begins.
// The client's cancel key in them is registered.
func (s *session) pooledReply() []byte {
	messages, clientKey, serverKey := s.pooled.NewSession()
	s.addCancelKey(clientKey, serverKey, s.pooled.Address)
	return messages
}

// release leaves the connection of a session that has ended to the pool, and reports whether
// the pool keeps it. Otherwise it is closed.
func (s *session) release(r *pool.Release) (kept bool) {
	if r == nil {
		return false
	}
	reason := r.Reason()
	if s.removeCancelKey() && reason == "" {
		reason = "a cancel request was on its way"
	}
	if reason != "" {
		s.log(zap.DebugLevel, "connection not kept", zap.String("error", reason))
		s.proxy.pool.Discard(s.pooled)
		return false
	}
	s.proxy.removeSession(s)
	if err := s.proxy.pool.Put(s.pooled); err != nil {
		s.log(zap.DebugLevel, "connection not kept", zap.Error(err))
		return false
	}
	return true
}

// discard closes a connection that is logged in but has no session.
func (s *session) discard(server *upstream.Conn) {
	if s.pooled != nil {
		s.proxy.pool.Discard(s.pooled)
		return
	}
	server.Close()
}
