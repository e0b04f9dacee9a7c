// Package proxy serves PostgreSQL clients that use no password, and logs them in to a
// server with a token that is sent only inside verified TLS. It knows PostgreSQL's wire
// protocol; the tokens are those of its caller.
//
// session.go shows the steps of a connection.
package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/internal/winsock"
	"github.com/iamproxy/iamproxy/proxy/cancel"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/pool"
	"github.com/iamproxy/iamproxy/proxy/retry"
	"github.com/iamproxy/iamproxy/proxy/stats"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

// handOffGrace bounds the wait for the startup packets of connected clients once the listeners
// are handed off to another process.
const handOffGrace = 2 * time.Second

// Proxy serves the clients of one database. Upstream and Tokens must be set. The exported
// fields must not change once it serves.
type Proxy struct {
	// Upstream connects to the database.
	Upstream *upstream.Dialer
	// Listen is where clients connect, as the log names it. May be empty.
	Listen string
	// ClientTLS is for clients that use TLS, whether they send an SSLRequest or start TLS at
	// once. If nil, they are answered that there is none.
	ClientTLS *tls.Config
	// ClientAuth holds the requirements for clients.
	ClientAuth ClientAuth
	// Tokens are the passwords for the server.
	Tokens Tokens
	// User and Database replace those of the client. If empty, the client's are used.
	User, Database string
	// RequireWritable has sessions begin only on an instance that accepts writes. While there is
	// none, as during a failover, logins are retried.
	RequireWritable bool
	// ConnectTimeout bounds the time from a client's startup packet to its session, and the
	// wait for the startup packet. If zero, 30 s.
	ConnectTimeout time.Duration
	// ConnectRate is the maximum number of new logins a second; more wait their turn. If zero, there is
	// no limit.
	ConnectRate float64
	// Fleet is set if this process is one of many that log in as the same users, with few logins each:
	// a refused login is retried like one that the server throttles.
	Fleet bool
	// MaxIdleConns is the maximum number of idle server connections that are kept for the next client with
	// the same startup parameters. If zero, each client has its own connection.
	MaxIdleConns int
	// Limit is the maximum number of clients that are admitted at once; several proxies may share it. If
	// nil, there is no limit.
	Limit *ConnLimit
	// MaxPending is the maximum number of clients that have not sent their startup packet. At the
	// limit, the oldest is evicted. If zero, 1000.
	MaxPending int
	// AllowFrom is the addresses from which clients may connect. If nil, all may; that is
	// for listeners that only this host can reach.
	AllowFrom []netip.Prefix
	// AllowPeer returns an error if the client's user is not allowed. The error may have a
	// method Advice() string that returns a hint. If nil, all users are.
	AllowPeer func(client net.Conn) error
	// HandOff means that another process accepts clients of the same listening sockets: at
	// Shutdown new clients are left to it instead of being rejected.
	HandOff bool
	// CheckCommand returns the command line that diagnoses a failed login, for the hints of such
	// failures. May be nil.
	CheckCommand func(user, database string) string
	// SessionIDs is the last number of a session; several proxies may share it. If nil, the
	// proxy numbers its own sessions.
	SessionIDs *atomic.Uint64
	// Observe is called with the timings of each login that led to a session. May be nil.
	Observe func(stats.LoginTimings)
	// Log may be nil.
	Log *zap.Logger

	retry    retry.Controller
	pool     pool.Pool
	cancels  cancel.Registry
	recorder stats.Recorder
	sampler  logging.Sampler
	warnings warnings

	unencrypted unencryptedClients
	admission   admission
	sessions    sessionTable
	lastID      *atomic.Uint64 // of a session
	logger      *zap.Logger    // Log, with the fields of the endpoint

	startOnce sync.Once
	ctx       context.Context // is done when the proxy stops
	stop      context.CancelFunc
	handlers  sync.WaitGroup // connections, accept loops, and the janitor
}

// Tokens are the passwords that the server accepts, and what is known of the reasons for
// which it may not. All methods may be called concurrently.
type Tokens interface {
	// Token returns user's password. An error may have a method Advice() string that returns
	// a hint. With the methods Reason() string and Temporary() bool it has its own reason, and may
	// pass.
	Token(ctx context.Context, user string) (string, error)
	// Invalidate records that the server did not accept this token, and reports whether
	// there is or will be another one.
	Invalidate(user, token string) (another bool)
	// RefusedHint returns the hint for a server that refuses user's tokens. It may take
	// until ctx is done.
	RefusedHint(ctx context.Context, user string) string
	// UnexpectedAuthHint returns the hint for a server that requests another kind of
	// password of user.
	UnexpectedAuthHint(user string) string
}

// Serve accepts clients until Shutdown, and then returns nil. It closes the listener.
// Errors of single connections, and a lack of file descriptors, do not end it.
func (p *Proxy) Serve(listener net.Listener) error {
	p.start()
	defer listener.Close()
	counted := func() { p.handlers.Add(1); p.admission.startups.Add(1) } // so that Shutdown waits between two clients, too
	if !p.sessions.addListener(listener, counted) {
		return nil
	}
	defer p.handlers.Done()
	defer p.admission.startups.Done()
	var pause time.Duration
	for {
		client, err := listener.Accept()
		switch {
		case err == nil:
			pause = 0
			p.handlers.Add(1)
			p.admission.startups.Add(1)
			s := p.newSession(client)
			s.pending = p.admission.pending.add(p.ctx, s.client)
			go p.serve(s)
		case !p.sessions.accepts():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // no file descriptors, or the client has left already
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			p.sampler.Log(p.logger.Core(), p.logger.Log, logging.Kind{Level: zap.WarnLevel, Message: "could not accept a client; trying again"}, zap.Float64("retry_in_s", pause.Seconds()), zap.Error(winsock.POSIX(err)))
			select {
			case <-time.After(pause):
			case <-p.ctx.Done():
			}
		}
	}
}

// Shutdown drains: new clients are rejected, cancel requests are still served, and sessions
// go on until they end. When there is none left, or when ctx is done, all connections are
// closed and Serve returns. Shutdown returns how many sessions it ended.
func (p *Proxy) Shutdown(ctx context.Context) (ended int) {
	p.start()
	if p.HandOff {
		p.sessions.handOff()
		grace, cancel := context.WithTimeout(ctx, handOffGrace)
		defer cancel()
		waitFor(grace, &p.admission.startups)
	}
	p.sessions.drain()
	p.pool.Close()
	waitFor(ctx, &p.sessions.admitted)
	ended = p.sessions.stop(p.stop)
	p.sessions.closeListeners()
	p.handlers.Wait()
	p.sampler.Report(p.logger, true)
	return ended
}

// waitFor returns when all of a group are done, or ctx is.
func waitFor(ctx context.Context, group *sync.WaitGroup) {
	done := make(chan struct{})
	go closeAfterWait(group, done)
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func closeAfterWait(group *sync.WaitGroup, done chan<- struct{}) {
	group.Wait()
	close(done)
}

// start prepares the state, once.
func (p *Proxy) start() {
	p.startOnce.Do(func() {
		p.lastID = cmp.Or(p.SessionIDs, new(atomic.Uint64))
		p.logger = cmp.Or(p.Log, zap.NewNop()).With(zap.String("endpoint", p.Upstream.Endpoint), logging.OptionalString("listen", p.Listen))
		p.ctx, p.stop = context.WithCancel(context.Background()) //nolint:gosec // Shutdown calls it
		if p.ClientTLS != nil {
			p.admission.clientTLS = p.ClientTLS.Clone()
			p.admission.clientTLS.NextProtos = []string{pgwire.ALPN}
		}
		p.retry.SetRate(p.ConnectRate)
		p.retry.SetFleet(p.Fleet)
		p.pool.MaxIdle = p.MaxIdleConns
		p.admission.pending.init(p.MaxPending)
		p.handlers.Add(1)
		go p.janitor()
	})
}

func (p *Proxy) connectTimeout() time.Duration { return cmp.Or(p.ConnectTimeout, 30*time.Second) }
