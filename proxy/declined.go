package proxy

import (
	"maps"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/age"
	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

const (
	// warnInterval is the minimum time between two warnings of a reason of isUnanswerable.
	warnInterval = time.Minute
	// reconnectTime bounds the wait for a client that may connect again without encryption.
	reconnectTime = time.Second
	// maxAddresses is the maximum number of addresses that unencryptedClients holds.
	maxAddresses = 4096
)

// isUnanswerable reports whether the client cannot be sent the error: it disconnected when its request
// for encryption was declined, or the TLS handshake failed, of which TLS itself has sent the reason.
func isUnanswerable(err error) bool {
	switch pgwire.ReasonOf(err) {
	case pgwire.ClientTLSFailed, pgwire.ClientTLSDeclined, pgwire.ClientGSSDeclined:
		return true
	}
	return false
}

// recordUnanswerable records a client for which isUnanswerable holds. Some health checks and scanners
// look the same, and repeat every few seconds: the log has a warning each warnInterval, and the rest
// at debug level.
func (s *session) recordUnanswerable(err error) {
	f := s.proxy.clientError(err)
	if f.Reason != pgwire.ClientTLSFailed && s.reconnects() {
		s.log(zap.DebugLevel, "client continues without encryption on another connection", zap.String("reason", string(f.Reason)))
		return
	}
	s.recordFailure(f)
	s.logChain(err)
	level := zap.DebugLevel
	if s.proxy.warnings.allow(f.Reason) {
		level = zap.WarnLevel
	}
	s.logSampled(level, "connection rejected", f, zap.Error(f), zap.String("hint", f.Hint),
		s.event(logging.Refused, func() []string { return s.failureDetails(f) }))
}

// reconnects reports whether the client, whose request for encryption was declined, connects again
// without one. pgx does so with sslmode=prefer, its default. Clients with the same address count as one client.
func (s *session) reconnects() bool {
	s.client.Close() // frees its descriptor
	s.client.Socket().Close()
	select {
	case <-time.After(reconnectTime):
	case <-s.proxy.ctx.Done():
	}
	return s.proxy.unencrypted.seenSince(s.clientHost(), s.declinedAt)
}

// clientHost returns the client's address without its port.
func (s *session) clientHost() string {
	if host, _, err := net.SplitHostPort(s.peer); err == nil {
		return host
	}
	return s.peer
}

// unencryptedClients holds when a client of an address last began with a startup packet, without a
// request for encryption.
type unencryptedClients struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// note records such a client. At maxAddresses, it forgets those that reconnects does not ask for.
func (u *unencryptedClients) note(host string) {
	now := time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = make(map[string]time.Time)
	}
	if _, known := u.last[host]; !known && len(u.last) >= maxAddresses {
		maps.DeleteFunc(u.last, func(_ string, last time.Time) bool { return age.At(now, last) > 2*reconnectTime })
	}
	if len(u.last) < maxAddresses {
		u.last[host] = now
	}
}

// seenSince reports whether there was such a client since t.
func (u *unencryptedClients) seenSince(host string, t time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.last[host].Before(t)
}

// warnings holds when there was the last warning of a reason.
type warnings struct {
	mu   sync.Mutex
	last map[pgwire.Reason]time.Time
}

// allow reports whether warnInterval has passed since it last returned true for the reason.
func (w *warnings) allow(reason pgwire.Reason) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if last, warned := w.last[reason]; warned && age.Of(last) < warnInterval {
		return false
	}
	if w.last == nil {
		w.last = make(map[pgwire.Reason]time.Time)
	}
	w.last[reason] = time.Now()
	return true
}
