package proxy

import (
	"slices"
	"sync"
	"time"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

const (
	// maxAge is how long after its login a connection is kept: what a login checks
	// (who may, and what settings are a role's) is checked again by then.
	maxAge = 10 * time.Minute
	// maxIdle is how long a connection is kept that nobody wants.
	maxIdle = 2 * time.Minute
	// resetPatience is how long a client waits for a connection that is being reset:
	// longer than that takes, and not much longer than a login.
	resetPatience = 100 * time.Millisecond
)

// PoolCounts are the connections whose sessions began with --pool on, by what they
// are doing.
type PoolCounts struct {
	Idle      int `json:"idle"`
	InUse     int `json:"in_use"`
	Resetting int `json:"resetting"` // on their way from one client to the next
}

// pool keeps connections for the next client that asks for the same. Its zero value
// keeps none. It neither reads nor writes to them.
type pool struct {
	limit int // of the idle ones

	mu        sync.Mutex
	closed    bool
	idle      []*upstream // in the order in which they became idle
	resetting []*reset
	inUse     int
}

// reset is a connection that will be idle in a moment, or lost.
type reset struct {
	server *upstream
	// taker gets it, or nil, and has room for that. It is nil while nobody waits.
	taker chan *upstream
}

func (c *pool) on() bool { return c.limit > 0 }

// take returns the connection of that kind that was idle last. If
// there is none it may wait for one that is being reset, and else returns nil.
func (c *pool) take(kind string) *upstream {
	c.mu.Lock()
	if server := c.takeIdle(kind); server != nil {
		c.mu.Unlock()
		return server
	}
	coming := c.claim(kind)
	c.mu.Unlock()
	if coming == nil {
		return nil
	}
	patience := time.NewTimer(resetPatience)
	defer patience.Stop()
	select {
	case server := <-coming.taker:
		return server
	case <-patience.C:
		return c.unclaim(coming)
	}
}

// takeIdle is take of those that are idle. c.mu is held.
func (c *pool) takeIdle(kind string) *upstream {
	now := time.Now()
	for i, server := range slices.Backward(c.idle) {
		if server.spare.kind == kind && !server.spare.expired(now) {
			c.idle = slices.Delete(c.idle, i, i+1)
			c.inUse++
			return server
		}
	}
	return nil
}

// claim has the caller wait for a connection. c.mu is held.
func (c *pool) claim(kind string) *reset {
	for _, r := range c.resetting {
		if r.taker == nil && r.server.spare.kind == kind {
			r.taker = make(chan *upstream, 1)
			return r
		}
	}
	return nil
}

// unclaim gives up waiting, if it is not over at just that time.
func (c *pool) unclaim(r *reset) *upstream {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case server := <-r.taker:
		return server
	default:
		r.taker = nil
		return nil
	}
}

// enter counts a new connection that may be kept.
func (c *pool) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inUse++
}

// leave counts one that was in use and is not kept.
func (c *pool) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inUse--
}

// begin notes that a connection that was in use is being reset. It returns nil if
// that is of no use any more.
func (c *pool) begin(server *upstream) *reset {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inUse--
	if c.closed || time.Since(server.spare.loggedIn) >= maxAge {
		return nil
	}
	r := &reset{server: server}
	c.resetting = append(c.resetting, r)
	return r
}

// finish passes a connection that was reset, and can be another's if well, to who
// waits for it, or keeps it. It returns the one that is to be closed for that: this
// one, or the one that was idle longest, or nil.
func (c *pool) finish(r *reset, well bool) (out *upstream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resetting = slices.DeleteFunc(c.resetting, func(other *reset) bool { return other == r })
	server, now := r.server, time.Now()
	server.spare.idleSince = now
	switch {
	case !well || c.closed:
		if r.taker != nil {
			close(r.taker)
		}
		return server
	case r.taker != nil:
		c.inUse++
		r.taker <- server
		return nil
	}
	c.idle = append(c.idle, server)
	if len(c.idle) > c.limit {
		out = c.idle[0]
		c.idle = slices.Delete(c.idle, 0, 1)
	}
	return out
}

// drop takes out those that lead to an address.
func (c *pool) drop(address string) (out []*upstream) {
	return c.remove(func(server *upstream) bool { return server.address == address })
}

// expire takes out those whose time is up before the time.
func (c *pool) expire(before time.Time) (out []*upstream) {
	return c.remove(func(server *upstream) bool { return server.spare.expired(before) })
}

// close keeps none any more, and takes all of them out.
func (c *pool) close() (out []*upstream) {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	return c.remove(func(*upstream) bool { return true })
}

func (c *pool) remove(which func(*upstream) bool) (out []*upstream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = slices.DeleteFunc(c.idle, func(server *upstream) bool {
		if !which(server) {
			return false
		}
		out = append(out, server)
		return true
	})
	return out
}

func (c *pool) counts() PoolCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return PoolCounts{Idle: len(c.idle), InUse: c.inUse, Resetting: len(c.resetting)}
}

// PoolCounts is what the connections are doing that may be kept.
func (p *Proxy) PoolCounts() PoolCounts { return p.pool.counts() }

// spare is what is known of a connection that may be another client's next.
type spare struct {
	kind      string // what a client has to ask for to get it
	greeting  greeting
	framing   *pgwire.BackendTracker // from its login to its end
	loggedIn  time.Time
	idleSince time.Time
}

// expired reports whether its time is up, if it has been idle since idleSince.
func (s *spare) expired(now time.Time) bool {
	return now.Sub(s.loggedIn) >= maxAge || now.Sub(s.idleSince) >= maxIdle
}
