package proxy

import (
	"cmp"
	"context"
	"slices"
	"time"

	"go.uber.org/zap/zapcore"
)

// The results of clients that wanted a session.
const (
	ResultOK        = "ok"        // it has, or had, one
	ResultFailed    = "failed"    // there was none to be had; it was told why
	ResultRejected  = "rejected"  // it was not let in: too many, not allowed, shutting down
	ResultAbandoned = "abandoned" // it left before it had one
)

// Counts are what a proxy does at the moment, and how much it has done so far.
type Counts struct {
	Sessions int              // clients that are let in at the moment, those that are being logged in included
	Results  map[string]int64 // clients that wanted a session, by Result
	Failures map[string]int64 // clients that were told of an error instead, or would have been had they stayed, by SQLSTATE
	Retries  int64            // attempts to log in that failed and were made again
	Up, Down int64            // bytes to the server and from it, once the session has begun
	Cancels  CancelCounts
	Pool     PoolCounts
}

// SessionInfo is a session that is open.
type SessionInfo struct {
	ID              uint64 // as in the log
	Client          string // where it comes from
	User, Database  string // as logged in to
	ApplicationName string // as the client said first; it may say something else since
	Server          string // the address of the very server
	Began           time.Time
	Up, Down        int64 // bytes to the server and from it
	Pooled          bool  // on a connection that was another client's before
}

// Login is how long the steps of one took that led to a session. What did not happen
// took no time.
type Login struct {
	At       time.Time     // when the session began
	Queue    time.Duration // until the attempt that succeeded: its turn, and attempts that failed with the pauses after them
	Resolve  time.Duration // the name, as all below of the attempt that succeeded
	Dial     time.Duration // TCP
	TLS      time.Duration // request for it and handshake
	Login    time.Duration // from the startup packet to the server's first ReadyForQuery; waiting for the token, too
	Total    time.Duration // from the client's startup packet to its session
	Attempts int           // how many it took; 0 if the connection was another client's before
}

// phases are a Login in the log.
type phases Login

func (p phases) MarshalLogObject(to zapcore.ObjectEncoder) error {
	if p.Attempts == 0 { // on another client's connection
		return nil
	}
	to.AddDuration("queue", p.Queue)
	to.AddDuration("resolve", p.Resolve)
	to.AddDuration("dial", p.Dial)
	to.AddDuration("tls", p.TLS)
	to.AddDuration("login", p.Login)
	to.AddInt("attempts", p.Attempts)
	return nil
}

// Failure is one that clients were told of, or several for the same reason; or what
// fails at the moment for those that still wait.
type Failure struct {
	First, Last    time.Time
	Times          int    // clients; 0 while none has given up
	Client         string // the last one's
	User, Database string // empty if the client had not said yet
	SQLSTATE       string
	Own            bool   // iamproxy's own, and no server's, whatever that says
	Message        string // as the client was told, and at the beginning whose it is
	Hint           string // may be empty

	title string // what those of the same reason have in common
}

// ServerInfo is the server that was logged in to last.
type ServerInfo struct {
	At                time.Time // of that login
	Address           string
	Version           string // as it says; may be empty
	TLS               string // as "TLS 1.3"
	CertificateExpiry time.Time
}

// Counts are what the proxy does at the moment, and how much it has done so far.
func (p *Proxy) Counts() Counts {
	counts := p.tally.counts()
	counts.Cancels, counts.Pool = p.Cancels(), p.pool.counts()
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

// Sessions are those that are open, the oldest first.
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

// Failures are the last ones, the newest first. Those of the same reason are one.
func (p *Proxy) Failures() []Failure { return p.tally.lastFailures() }

// Logins are the last ones that led to a session, the oldest first.
func (p *Proxy) Logins() []Login { return p.tally.lastLogins() }

// Users are those that the server has let in so far, in no order, and of very many only
// some: a client may claim to be anybody.
func (p *Proxy) Users() []string { return p.history.members() }

// Server is the one that was logged in to last; its zero value if there was none.
func (p *Proxy) Server() ServerInfo { return p.tally.lastServer() }

// Probe reports why the server cannot be reached over verified TLS, or nil. It does
// not log in. The error is what a client would be told; it may have a method
// Advice() string that says what to do.
func (p *Proxy) Probe(ctx context.Context) error {
	p.start()
	server, err := p.connect(ctx, p.address(), &Login{})
	if err != nil {
		return p.failure(err)
	}
	return server.Close()
}
