// Package proxy stands between PostgreSQL clients that use no password and a
// server that wants one it can only be given over verified TLS. It knows
// PostgreSQL's wire protocol and nothing of where passwords come from.
//
// The way of a connection is told in session.go.
package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/proxy/cancel"
	"github.com/iamproxy/iamproxy/proxy/retry"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// startupGrace is how long clients may take for their startup packet whose proxy is
// about to leave the others to its successor.
const startupGrace = 2 * time.Second

// Proxy serves the clients of one database. Endpoint, TLS and Tokens must be
// set; the fields must not change once it serves.
type Proxy struct {
	// Endpoint is the database's host:port, as messages name it.
	Endpoint string
	// Via is the host:port that is dialled instead. If empty, Endpoint.
	Via string
	// SOCKS is a proxy through which the server is reached, and which resolves its
	// name. If nil, it is reached directly.
	SOCKS *SOCKS
	// TLS verifies the server, whatever was dialled. It must have a ServerName.
	TLS *tls.Config
	// DirectTLS starts TLS with the server without asking for it first, which
	// spares a round trip and needs PostgreSQL 17.
	DirectTLS bool
	// ClientTLS is for clients that want TLS, whether they ask for it or start
	// with it. If nil, they are told that there is none.
	ClientTLS *tls.Config
	// Tokens are what the server is given for a password.
	Tokens Tokens
	// User and Database are logged in to whatever the client says. If empty,
	// as the client says.
	User, Database string
	// Writer has a session begin only on an instance that takes writes. While
	// there is none, as in a failover, it is looked for again.
	Writer bool
	// ConnectTimeout bounds the time from a client's startup packet to its
	// session, and the wait for the startup packet. If zero, 30 s.
	ConnectTimeout time.Duration
	// ConnectRate is the most new logins a second; more wait their turn. If zero,
	// they do not.
	ConnectRate float64
	// Pool is how many connections are kept at the most, idle, for the next client
	// with the same startup parameters. If zero, none: each client has its own.
	Pool int
	// Limit is how many clients are let in at once; several proxies may share it. If
	// nil, there is no limit.
	Limit *Limit
	// MaxArriving is how many clients may be between their connection and their startup
	// packet at once; behind that, see Limit. If zero, 1000.
	MaxArriving int
	// AllowFrom is from where clients may connect. If nil, from anywhere; that is for
	// listeners that only this host reaches.
	AllowFrom []netip.Prefix
	// AllowPeer is the error for which a client may not connect, for who it is. It may have
	// a method Advice() string. If nil, all may.
	AllowPeer func(client net.Conn) error
	// Succeeded says that another process accepts clients of the same listening
	// sockets: at Shutdown they are left to it, instead of being told to go away.
	Succeeded bool
	// Observe is told of each login that led to a session. May be nil.
	Observe func(stats.LoginTimings)
	// Dial connects to the server. If nil, a net.Dialer that tries every
	// address of a name and notices a server that vanished. An error that has a method
	// Advice() string says with it what to do.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Said is the last that the program has said through which Dial connects, for the hint
	// where such a connection breaks off or stays silent. May be nil.
	Said func() string
	// Log may be nil.
	Log *zap.Logger

	cancels   cancel.Registry
	pool      pool
	retry     retry.Controller
	recorder  stats.Recorder
	sampler   sampler
	serial    atomic.Uint64
	handlers  sync.WaitGroup // every connection, and who makes them
	strangers atomic.Int64   // who may not connect, and are told
	lingering atomic.Int64   // who have been told why there is no session, and are waited for
	arrivals  arrivals
	arriving  sync.WaitGroup // those that have not said yet what they want, and who makes them

	startOnce sync.Once
	ctx       context.Context // ends the connections that are left
	stop      context.CancelFunc
	serverTLS *tls.Config // TLS and ClientTLS, with the protocol's name
	clientTLS *tls.Config

	mu        sync.Mutex
	draining  bool
	left      bool // the listeners, to another process
	listeners []net.Listener
	sessions  map[*session]*upstream // admitted; nil while logging in
	admitted  sync.WaitGroup
	carried   struct{ up, down int64 } // bytes of those that have ended
}

// Tokens are the passwords that the server takes, and what is known of the
// reasons why it may not take them. All methods may be called concurrently.
type Tokens interface {
	// Token is user's password. An error that has a method Advice() string
	// says with it what to do.
	Token(ctx context.Context, user string) (string, error)
	// Invalidate reports that the server did not accept this token, and reports whether
	// there is or will be another, and not the same again.
	Invalidate(user, token string) (another bool)
	// RefusedHint is what to do when the server refuses user's tokens. It may have
	// to be asked for, until ctx is done.
	RefusedHint(ctx context.Context, user string) string
	// UnexpectedAuthHint is what to do when the server asks user for another kind of
	// password.
	UnexpectedAuthHint(user string) string
}

// Serve accepts clients until Shutdown, and then returns nil. It closes the
// listener. Errors of single connections, and a want of file descriptors, do
// not end it.
func (p *Proxy) Serve(listener net.Listener) error {
	p.start()
	defer listener.Close()
	if !p.listen(listener) {
		return nil
	}
	defer p.handlers.Done()
	defer p.arriving.Done()
	var pause time.Duration
	for {
		client, err := listener.Accept()
		switch {
		case err == nil:
			pause = 0
			p.handlers.Add(1)
			p.arriving.Add(1)
			s := p.newSession(client)
			p.arrivals.enter(p.ctx, s)
			go p.serve(s)
		case p.stopsAccepting():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // too many open files, a client that left before it was accepted
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			p.logSampled(p.log, zap.WarnLevel, "cannot accept clients for now", "", zap.Duration("retry_in", pause), zap.Error(err))
			select {
			case <-time.After(pause):
			case <-p.ctx.Done():
			}
		}
	}
}

// Shutdown drains: new clients are told that the proxy is shutting down, while
// cancel requests are still served and sessions go on until they end. When
// there is none left, or when ctx is done, what is still connected is closed
// and Serve returns. It returns how many sessions were cut short.
func (p *Proxy) Shutdown(ctx context.Context) (cut int) {
	p.start()
	if p.Succeeded {
		p.leaveClients(ctx)
	}
	p.mu.Lock()
	p.draining = true
	p.mu.Unlock()
	retire(p.pool.close())
	waitFor(ctx, &p.admitted)

	p.mu.Lock()
	for _, server := range p.sessions { // before they end for this
		if server != nil {
			cut++
		}
	}
	p.stop()
	p.mu.Unlock()
	p.closeListeners()
	p.handlers.Wait()
	p.logUntold(time.Now().Add(sampleTime))
	return cut
}

// leaveClients accepts no more of them, and lets those in that have connected: they
// have about startupGrace to say what they want.
func (p *Proxy) leaveClients(ctx context.Context) {
	p.mu.Lock()
	p.left = true
	p.mu.Unlock()
	p.closeListeners()
	ctx, cancel := context.WithTimeout(ctx, startupGrace)
	defer cancel()
	waitFor(ctx, &p.arriving)
}

// closeListeners may take until the next client comes: a socket that is shared may have
// been made a blocking one by another process.
func (p *Proxy) closeListeners() {
	p.mu.Lock()
	listeners := slices.Clone(p.listeners)
	p.mu.Unlock()
	for _, listener := range listeners {
		listener.Close()
	}
}

func (p *Proxy) drains() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.draining
}

// stopsAccepting reports whether a listener was closed on purpose.
func (p *Proxy) stopsAccepting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left || p.ctx.Err() != nil
}

// waitFor returns when all of a group are done, or ctx is.
func waitFor(ctx context.Context, group *sync.WaitGroup) {
	done := make(chan struct{})
	go closeWhenDone(group, done)
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func closeWhenDone(group *sync.WaitGroup, done chan<- struct{}) {
	group.Wait()
	close(done)
}

func (p *Proxy) start() {
	p.startOnce.Do(func() {
		p.ctx, p.stop = context.WithCancel(context.Background())
		p.serverTLS, p.clientTLS = withALPN(p.TLS), withALPN(p.ClientTLS)
		p.sessions = make(map[*session]*upstream)
		p.retry.SetRate(p.ConnectRate)
		p.pool.limit = p.Pool
		p.arrivals.open(p.MaxArriving)
		p.handlers.Add(1)
		go p.keepHouse()
	})
}

func (p *Proxy) listen(listener net.Listener) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left || p.ctx.Err() != nil {
		return false
	}
	p.listeners = append(p.listeners, listener)
	p.handlers.Add(1) // so that Shutdown does not stop waiting between two clients
	p.arriving.Add(1)
	return true
}

// admit counts a client that is about to log in. The error is why it may not, now.
func (p *Proxy) admit(s *session) error {
	if p.drains() {
		return errShuttingDown
	}
	if !p.Limit.take() {
		return p.tooManyClients()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.draining {
		p.Limit.giveBack()
		return errShuttingDown
	}
	p.sessions[s] = nil
	p.admitted.Add(1)
	s.admitted, s.asked = true, time.Now()
	return nil
}

// opened notes that a session has a server now.
func (p *Proxy) opened(s *session, server *upstream) {
	p.mu.Lock()
	p.sessions[s] = server
	p.mu.Unlock()
	p.recorder.SessionOpened(s.took)
	if p.Observe != nil {
		p.Observe(s.took)
	}
}

// ended notes that a session has ended, while its connection is still made use of.
func (p *Proxy) ended(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(s)
}

// leave notes that a client that was admitted is gone.
func (p *Proxy) leave(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(s)
	p.admitted.Done()
}

// remove takes a session off the list, once. p.mu is held.
func (p *Proxy) remove(s *session) {
	if _, listed := p.sessions[s]; !listed {
		return
	}
	delete(p.sessions, s)
	p.Limit.giveBack()
	p.carried.up += s.up.Load()
	p.carried.down += s.down.Load()
}

func (p *Proxy) connectTimeout() time.Duration {
	if p.ConnectTimeout <= 0 {
		return 30 * time.Second
	}
	return p.ConnectTimeout
}

func (p *Proxy) address() string {
	if p.Via != "" {
		return p.Via
	}
	return p.Endpoint
}

// via is what stands between here and the server, as messages name it.
func (p *Proxy) via() string {
	if p.SOCKS != nil {
		return p.SOCKS.String()
	}
	return p.Via
}

func (p *Proxy) log() *zap.Logger {
	if p.Log == nil {
		return zap.NewNop()
	}
	return p.Log
}
