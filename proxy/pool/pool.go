// Package pool keeps server connections for the next client with the same user, database
// and startup parameters.
package pool

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/iamproxy/iamproxy/internal/age"
	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

const (
	// serverLifetime is the maximum age of a connection that is reused. A new login checks
	// permissions and settings again.
	serverLifetime = 10 * time.Minute
	// serverIdleTimeout is the maximum time that an idle connection is kept.
	serverIdleTimeout = 2 * time.Minute
	// resetWait bounds the wait of a client for a connection that is being reset. It is
	// longer than a reset takes, and not much longer than a login.
	resetWait = 100 * time.Millisecond
)

// Stats is the number of a pool's connections by state.
type Stats struct {
	Idle      int `json:"idle"`
	InUse     int `json:"in_use"`
	Resetting int `json:"resetting"` // between two clients
}

// Pool keeps idle connections. Its methods may be called concurrently.
type Pool struct {
	// MaxIdle is the maximum number of idle connections. If zero, the pool is off.
	MaxIdle int
	// CheckDelay is the idle time after which Validate checks whether the server still
	// answers. If zero, a second.
	CheckDelay time.Duration

	mu        sync.Mutex
	closed    bool
	idle      []*Conn // in the order in which they became idle
	resetting []*pendingReset
	inUse     int
}

// Conn is a server connection that another client can use next.
type Conn struct {
	*upstream.Conn

	pool      *Pool
	key       string
	reply     startupReply
	tracker   *pgwire.BackendTracker // from the login on
	loggedIn  time.Time
	idleSince time.Time
}

// pendingReset is a connection that will be idle in a moment, or lost.
type pendingReset struct {
	conn *Conn
	// waiter gets the connection, or nil, and has room for it. It is nil while no client
	// waits.
	waiter chan *Conn
}

// Enabled reports whether the pool keeps any connections.
func (p *Pool) Enabled() bool { return p.MaxIdle > 0 }

// errNotReusable is the error of New for a login that cannot be replayed.
var errNotReusable = errors.New("the server has sent too much, or a cancel key of an unknown kind")

// New returns a connection that Put can keep, once it has logged in. key is the
// PoolKey of its startup message, reply what the server sent from AuthenticationOk to
// ReadyForQuery. The connection is counted as in use until Put or Discard.
func (p *Pool) New(conn *upstream.Conn, key string, reply []byte) (*Conn, error) {
	r, ok := newStartupReply(reply)
	if !ok {
		return nil, errNotReusable
	}
	c := &Conn{Conn: conn, pool: p, key: key, reply: r, loggedIn: time.Now()}
	c.tracker = pgwire.NewBackendTracker(c.reply.setParameter)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inUse++
	return c, nil
}

// Get returns the connection of the key that became idle last, or nil. It may wait for one
// that is being reset. A connection for which validate returns an error is discarded, and
// after a timeout all idle ones to the same server, which would time out, too.
func (p *Pool) Get(key string, validate func(*Conn) error) *Conn {
	for {
		conn := p.take(key)
		if conn == nil {
			return nil
		}
		err := validate(conn)
		if err == nil {
			return conn
		}
		p.Discard(conn)
		if netconn.IsTimeout(err) {
			terminate(p.remove(func(c *Conn) bool { return c.Address == conn.Address }))
		}
	}
}

// Put resets the session of a connection that was in use, and keeps the connection. If it
// returns an error, the connection is closed.
func (p *Pool) Put(conn *Conn) error {
	conn.reply.removeNotices()
	reset := p.startReset(conn)
	if reset == nil {
		conn.Terminate()
		return errExpired
	}
	err := conn.reset()
	surplus := p.finishReset(reset, err == nil)
	switch {
	case err != nil:
		conn.Close()
		return err
	case surplus == nil:
		return nil
	}
	surplus.Terminate()
	if surplus == conn {
		return errExpired
	}
	return nil
}

// errExpired is the error of Put for a connection that must not be used any longer.
var errExpired = errors.New("the connection has expired, or the proxy stops")

// Discard closes a connection that is in use.
func (p *Pool) Discard(conn *Conn) {
	p.mu.Lock()
	p.inUse--
	p.mu.Unlock()
	conn.Close()
}

// Expire closes idle connections whose time is up before the time.
func (p *Pool) Expire(before time.Time) {
	terminate(p.remove(func(c *Conn) bool { return c.expired(before) }))
}

// Close closes all idle connections, and has Put keep none from now on.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	terminate(p.remove(func(*Conn) bool { return true }))
}

// Stats returns the number of connections by state.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{Idle: len(p.idle), InUse: p.inUse, Resetting: len(p.resetting)}
}

// take returns an idle connection, waits for one that is being reset, or returns nil.
func (p *Pool) take(key string) *Conn {
	p.mu.Lock()
	if conn := p.takeIdle(key); conn != nil {
		p.mu.Unlock()
		return conn
	}
	reset := p.claim(key)
	p.mu.Unlock()
	if reset == nil {
		return nil
	}
	timer := time.NewTimer(resetWait)
	defer timer.Stop()
	select {
	case conn := <-reset.waiter:
		return conn
	case <-timer.C:
		return p.unclaim(reset)
	}
}

// takeIdle takes an idle connection. p.mu is held.
func (p *Pool) takeIdle(key string) *Conn {
	now := time.Now()
	for i, conn := range slices.Backward(p.idle) {
		if conn.key == key && !conn.expired(now) {
			p.idle = slices.Delete(p.idle, i, i+1)
			p.inUse++
			return conn
		}
	}
	return nil
}

// claim has the caller wait for a connection that is being reset. p.mu is held.
func (p *Pool) claim(key string) *pendingReset {
	for _, r := range p.resetting {
		if r.waiter == nil && r.conn.key == key {
			r.waiter = make(chan *Conn, 1)
			return r
		}
	}
	return nil
}

// unclaim stops waiting. It returns the connection if it has just become idle.
func (p *Pool) unclaim(r *pendingReset) *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case conn := <-r.waiter:
		return conn
	default:
		r.waiter = nil
		return nil
	}
}

// startReset returns nil if the connection, which was in use, would not be kept.
func (p *Pool) startReset(conn *Conn) *pendingReset {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inUse--
	if p.closed || age.Of(conn.loggedIn) >= serverLifetime {
		return nil
	}
	conn.idleSince = time.Now() // not when the answer is read, which may be after a suspension
	r := &pendingReset{conn: conn}
	p.resetting = append(p.resetting, r)
	return r
}

// finishReset passes a connection that was reset to the client that waits for it, or keeps
// it. It returns the connection to close: this one, or the one that was idle longest, or
// nil.
func (p *Pool) finishReset(r *pendingReset, ok bool) (surplus *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resetting = slices.DeleteFunc(p.resetting, func(other *pendingReset) bool { return other == r })
	switch {
	case !ok || p.closed:
		if r.waiter != nil {
			close(r.waiter)
		}
		return r.conn
	case r.waiter != nil:
		p.inUse++
		r.waiter <- r.conn
		return nil
	}
	p.idle = append(p.idle, r.conn)
	if len(p.idle) > p.MaxIdle {
		surplus = p.idle[0]
		p.idle = slices.Delete(p.idle, 0, 1)
	}
	return surplus
}

// remove takes out the idle connections for which match returns true.
func (p *Pool) remove(match func(*Conn) bool) (removed []*Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = slices.DeleteFunc(p.idle, func(conn *Conn) bool {
		if !match(conn) {
			return false
		}
		removed = append(removed, conn)
		return true
	})
	return removed
}

func terminate(conns []*Conn) {
	for _, conn := range conns {
		conn.Terminate()
	}
}

// IdleTime returns how long ago the last session ended.
func (c *Conn) IdleTime() time.Duration { return age.Of(c.idleSince) }

// expired reports whether an idle connection must not be used at the time.
func (c *Conn) expired(at time.Time) bool {
	return age.At(at, c.loggedIn) >= serverLifetime || age.At(at, c.idleSince) >= serverIdleTimeout
}

// NewSession returns the messages with which a session on the connection begins, and the
// cancel key in them: one that is made for this client. It is nil if the server has none,
// as is serverKey, the server's own.
func (c *Conn) NewSession() (messages, clientKey, serverKey []byte) {
	clientKey = c.reply.newCancelKey()
	return c.reply.messages, clientKey, c.reply.serverKey
}
