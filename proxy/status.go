package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/cancel"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// Counts is what a proxy does at the moment, and how much it has done so far.
type Counts struct {
	stats.Totals
	Sessions int   // admitted clients at the moment, those that log in included
	Up, Down int64 // bytes to the server and from it, since the sessions began
	Cancels  cancel.Stats
	Pool     PoolCounts
}

// SessionInfo is an open session.
type SessionInfo struct {
	ID              uint64 // as in the log
	Client          string // address
	User, Database  string // of the login
	ApplicationName string // of the startup packet; the client may have changed it since
	Server          string // address of the very server
	Began           time.Time
	Up, Down        int64 // bytes to the server and from it
	Pooled          bool  // on a connection that another client used before
}

// Counts returns what the proxy does at the moment, and how much it has done so far.
func (p *Proxy) Counts() Counts {
	counts := Counts{Totals: p.recorder.Totals(), Cancels: p.Cancels(), Pool: p.pool.counts()}
	p.mu.Lock()
	defer p.mu.Unlock()
	counts.Sessions = len(p.sessions)
	counts.Up, counts.Down = p.carried.up, p.carried.down
	for s := range p.sessions {
		counts.Up += s.up.Load()
		counts.Down += s.down.Load()
	}
	return counts
}

// Sessions returns the open sessions, the oldest first.
func (p *Proxy) Sessions() []SessionInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	var open []SessionInfo
	for s, server := range p.sessions {
		if server != nil { // before that, its fields are still being set
			open = append(open, s.info(server))
		}
	}
	slices.SortFunc(open, func(a, b SessionInfo) int { return cmp.Compare(a.ID, b.ID) })
	return open
}

func (s *session) info(server *upstream) SessionInfo {
	return SessionInfo{
		ID:              s.id,
		Client:          s.peer,
		User:            s.user,
		Database:        s.database,
		ApplicationName: s.application,
		Server:          server.address,
		Began:           s.began,
		Up:              s.up.Load(),
		Down:            s.down.Load(),
		Pooled:          s.pooled,
	}
}

// Failures returns the last failures, the newest first. Those of one kind are one.
func (p *Proxy) Failures() []stats.Failure { return p.recorder.Failures() }

// Logins returns the last logins that led to a session, the oldest first.
func (p *Proxy) Logins() []stats.LoginTimings { return p.recorder.Logins() }

// Users returns the users whose tokens the server has accepted, in no order. There is a
// limit on their number, since a client may send any name.
func (p *Proxy) Users() []string { return p.retry.KnownUsers() }

// Server returns the server of the last login. Its zero value means that there was none.
func (p *Proxy) Server() stats.ServerInfo { return p.recorder.Server() }

// Probe returns why the server cannot be reached over verified TLS, or nil. It does not
// log in. The error is what a client would be sent; it may have a method Advice() string
// that returns a hint.
func (p *Proxy) Probe(ctx context.Context) error {
	p.start()
	server, err := p.connect(ctx, p.address(), &stats.LoginTimings{})
	if err != nil {
		return p.failure(err)
	}
	return server.Close()
}

// abandonThreshold is how long a client waits for the server until its disconnect counts as
// a failed login.
const abandonThreshold = 2 * time.Second

// recordFailure records the failure that the client is sent: an *pgwire.Error or a
// *pgwire.ServerError.
func (s *session) recordFailure(err error, hint string) {
	result := stats.Failed
	var own *pgwire.Error
	if errors.As(err, &own) && own.Rejected {
		result = stats.Rejected
	}
	s.proxy.recorder.ClientFailed(result, s.failure(err, hint, 1))
}

// recordRetry records an attempt that is made again. A server's error is only shown in the
// end: it may well be for a token that is too old, or for the number of logins.
func (s *session) recordRetry(err error) {
	var server *pgwire.ServerError
	if errors.As(err, &server) {
		s.proxy.recorder.Retried(nil)
		return
	}
	own := s.proxy.failure(err)
	f := s.failure(own, own.Hint, 0)
	s.proxy.recorder.Retried(&f)
}

// recordDisconnect records a client that disconnected during login.
func (s *session) recordDisconnect() {
	if s.failed == nil && s.took.Attempts > 0 && time.Since(s.asked) > abandonThreshold {
		s.failed = s.proxy.noAnswerBefore(errClientLeft)
	}
	s.logSampled(zap.InfoLevel, "client disconnected during login", pgwire.SQLSTATE(s.failed), zap.Error(errClientLeft), zap.NamedError("last_error", s.failed))
	var server *pgwire.ServerError
	switch {
	case s.failed == nil:
		s.proxy.recorder.ClientLeft()
	case errors.As(s.failed, &server):
		s.proxy.recorder.ClientFailed(stats.Abandoned, s.failure(server, server.Hint, 1))
	default:
		own := s.proxy.failure(s.failed)
		s.proxy.recorder.ClientFailed(stats.Abandoned, s.failure(own, own.Hint, 1))
	}
}

// failure returns err, an *pgwire.Error or a *pgwire.ServerError, as it is shown.
func (s *session) failure(err error, hint string, times int) stats.Failure {
	message := err.Error()
	reason := pgwire.ReasonOf(err)
	if !reason.FromServer() {
		message = "iamproxy: " + message
	}
	return stats.Failure{
		Last:     time.Now(),
		Times:    times,
		Client:   s.peer,
		User:     s.user,
		Database: s.database,
		SQLSTATE: pgwire.SQLSTATE(err),
		Reason:   reason,
		Message:  text.OneLine(message),
		Hint:     text.OneLine(hint),
	}
}

// recordServer records the server that accepted the login.
func (s *session) recordServer(server *upstream) {
	info := stats.ServerInfo{At: time.Now(), Address: server.address, Version: s.reported[serverVersion]}
	if state, ok := server.ConnectionState(); ok {
		info.TLS = tls.VersionName(state.Version)
		if len(state.PeerCertificates) > 0 {
			info.CertificateExpiry = state.PeerCertificates[0].NotAfter
		}
	}
	s.proxy.recorder.LoggedIn(info)
}
