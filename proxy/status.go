package proxy

import (
	"context"
	"crypto/tls"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/cancel"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/pool"
	"github.com/iamproxy/iamproxy/proxy/stats"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

// Counts are the counts of a proxy, at the moment and so far.
type Counts struct {
	stats.Totals
	Sessions int   // admitted clients at the moment, those that log in included
	Up, Down int64 // bytes to the server and from it, since the proxy started
	Cancels  cancel.Stats
	Pool     pool.Stats
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
	counts := Counts{Totals: p.recorder.Totals(), Cancels: p.cancels.Stats(), Pool: p.pool.Stats()}
	counts.Sessions, counts.Up, counts.Down = p.sessions.counts()
	return counts
}

// Sessions returns the open sessions, the oldest first.
func (p *Proxy) Sessions() []SessionInfo { return p.sessions.info() }

func (s *session) info(server *upstream.Conn) SessionInfo {
	return SessionInfo{
		ID:              s.id,
		Client:          s.peer,
		User:            s.user,
		Database:        s.database,
		ApplicationName: s.applicationName,
		Server:          server.Address,
		Began:           s.began,
		Up:              s.up.Load(),
		Down:            s.down.Load(),
		Pooled:          s.reused,
	}
}

// Failures returns the last failures, the newest first. Failures of one kind are grouped.
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
	server, err := p.Upstream.Connect(ctx)
	if err != nil {
		return p.clientError(err)
	}
	return server.Close()
}

// A client that disconnects after waiting longer than abandonThreshold counts as a failed
// login.
const abandonThreshold = 2 * time.Second

// impatientHint is the hint for a client that disconnects while its login is retried.
const impatientHint = "If the client's own timeout ended the login, set it above --connect-timeout."

// recordFailure records the failure that the client is sent.
func (s *session) recordFailure(f failure) {
	result := stats.Failed
	if own, ok := f.(*pgwire.Error); ok && own.Rejected {
		result = stats.Rejected
	}
	s.proxy.recorder.ClientFailed(result, s.failureRecord(f, 1))
}

// recordRetry records an attempt that is made again. A server's error is only shown in the
// end: it may well be for a token that is too old, or for the number of logins.
func (s *session) recordRetry(f failure) {
	if _, ok := f.(*pgwire.ServerError); ok {
		s.proxy.recorder.Retried(nil)
		return
	}
	record := s.failureRecord(f, 0)
	s.proxy.recorder.Retried(&record)
}

// recordDisconnect records a client that disconnected during login.
func (s *session) recordDisconnect() {
	if s.lastError == nil && s.timings.Attempts > 0 && time.Since(s.admittedAt) > abandonThreshold {
		s.lastError = s.proxy.Upstream.NoAnswerError(errClientDisconnected)
	}
	if s.lastError == nil {
		s.logSampled(zap.InfoLevel, "client disconnected during login", nil, zap.Error(errClientDisconnected))
		s.proxy.recorder.ClientDisconnected()
		return
	}
	f := s.proxy.classify(s.lastError)
	s.proxy.recorder.ClientFailed(stats.Abandoned, s.failureRecord(f, 1))
	s.logChain(s.lastError)
	f = s.withCheck(f)
	waited := time.Since(s.admittedAt)
	s.logSampled(zap.WarnLevel, "client disconnected during login", f, zap.Error(errClientDisconnected), zap.NamedError("last_error", f),
		zap.Float64("waited_s", waited.Seconds()), zap.String("hint", strings.TrimSpace(impatientHint+" "+text.OneLine(text.Advice(f)))),
		s.event(logging.GaveUp, func() []string { return append([]string{"after " + text.Duration(waited)}, s.failureDetails(f)...) }))
}

// failureRecord returns a failure as it is shown.
func (s *session) failureRecord(err failure, times int) stats.Failure {
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
		Hint:     text.OneLine(text.Advice(err)),
		Check:    s.checkCommand(err),
	}
}

// recordServer records the server that accepted the login.
func (s *session) recordServer(server *upstream.Conn, result *upstream.LoginResult) {
	info := stats.ServerInfo{At: time.Now(), Address: server.Address, Version: result.Parameters[upstream.ServerVersion]}
	if state, ok := server.ConnectionState(); ok {
		info.TLS = tls.VersionName(state.Version)
		if len(state.PeerCertificates) > 0 {
			info.CertificateExpiry = state.PeerCertificates[0].NotAfter
		}
	}
	s.proxy.recorder.LoggedIn(info)
}
