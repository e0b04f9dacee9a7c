package pool

import (
	"context"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

// sink is a connection that accepts all writes.
type sink struct {
	net.Conn
	closed bool
}

func (s *sink) Write(b []byte) (int, error)      { return len(b), nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }
func (s *sink) Close() error                     { s.closed = true; return nil }

// newConn returns a connection that has just logged in.
func newConn(key string) *Conn {
	return &Conn{Conn: &upstream.Conn{Conn: netconn.New(&sink{}), Address: "10.0.0.1:5432"}, key: key, loggedIn: time.Now()}
}

func (c *Conn) isClosed() bool { return c.Socket().NetConn().(*sink).closed }

// add has a connection be in use and then idle, without the reset itself. It returns the
// connection that is to be closed.
func (p *Pool) add(conn *Conn) (surplus *Conn) {
	p.inUse++
	return p.put(conn)
}

func (p *Pool) put(conn *Conn) (surplus *Conn) {
	reset := p.startReset(conn)
	if reset == nil {
		return conn
	}
	return p.finishReset(reset, true)
}

func (p *Pool) expectStats(t *testing.T, idle, inUse int) {
	t.Helper()
	if got, want := p.Stats(), (Stats{Idle: idle, InUse: inUse}); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}

// The connection that became idle last is used first, keys are compared to the byte, and the
// one that was idle longest is closed if there are too many.
func TestPoolOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Pool{MaxIdle: 3}
		a, b, other, last := newConn("x"), newConn("x"), newConn("y"), newConn("x")
		for _, conn := range []*Conn{a, b, other} {
			if surplus := p.add(conn); surplus != nil {
				t.Errorf("surplus %v", surplus)
			}
			time.Sleep(time.Second)
		}
		if p.take("X") != nil || p.take("") != nil || p.take("xx") != nil {
			t.Error("took a connection with another key")
		}
		if surplus := p.add(last); surplus != a {
			t.Errorf("surplus %v, want the one that was idle longest", surplus)
		}
		p.expectStats(t, 3, 0)
		if p.take("x") != last || p.take("x") != b || p.take("x") != nil || p.take("y") != other {
			t.Error("taken in another order")
		}
		p.expectStats(t, 0, 3)
		p.Discard(last)
		p.expectStats(t, 0, 2)
		if !last.isClosed() {
			t.Error("discarded connection not closed")
		}
	})
}

// A connection is closed 2 minutes after it became idle, and 10 minutes after its login.
func TestPoolTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Pool{MaxIdle: 3}
		const x = "x"
		conn := newConn(x)
		p.add(conn)
		time.Sleep(serverIdleTimeout - 1)
		if p.Expire(time.Now()); conn.isClosed() || p.take(x) != conn {
			t.Error("closed before it was idle for 2 minutes")
		}
		for range 4 { // it becomes 10 minutes old, and is never idle for long
			p.put(conn)
			time.Sleep(serverIdleTimeout - 1)
			if p.take(x) != conn {
				t.Fatal("gone before it was 10 minutes old")
			}
		}
		p.put(conn)
		time.Sleep(5 * time.Nanosecond)
		if p.take(x) != nil {
			t.Error("taken 10 minutes after its login")
		}
		if p.Expire(time.Now()); !conn.isClosed() {
			t.Error("not closed 10 minutes after its login")
		}
		if surplus := p.add(conn); surplus != conn {
			t.Error("kept 10 minutes after its login")
		}
		idle := newConn(x)
		p.add(idle)
		time.Sleep(serverIdleTimeout)
		if p.take(x) != nil {
			t.Error("taken after 2 minutes")
		}
		if p.Expire(time.Now()); !idle.isClosed() {
			t.Error("not closed after 2 minutes")
		}
		p.expectStats(t, 0, 0)
	})
}

// Without an idle connection, one client waits for one that is being reset, for a limited
// time.
func TestPoolWaitsForResets(t *testing.T) {
	for name, test := range map[string]struct {
		after  time.Duration
		ok     bool
		closed bool
		taken  bool
		waited time.Duration
	}{
		"reset":           {after: time.Millisecond, ok: true, taken: true, waited: time.Millisecond},
		"failed":          {after: time.Millisecond, waited: time.Millisecond},
		"stopped":         {after: time.Millisecond, ok: true, closed: true, waited: time.Millisecond},
		"too late":        {after: time.Second, ok: true, waited: resetWait},
		"failed too late": {after: time.Second, waited: resetWait},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := Pool{MaxIdle: 3, inUse: 1}
				conn := newConn("x")
				reset := p.startReset(conn)
				if p.take("y") != nil || time.Since(conn.loggedIn) > 0 {
					t.Error("waited for a connection with another key")
				}
				taken := make(chan *Conn)
				go func() { taken <- p.take("x") }()
				synctest.Wait()
				if p.take("x") != nil || time.Since(conn.loggedIn) > 0 {
					t.Error("waited for a connection that another client waits for")
				}
				time.AfterFunc(test.after, func() {
					if test.closed {
						p.Close()
					}
					p.finishReset(reset, test.ok)
				})
				got := <-taken
				if waited := time.Since(conn.loggedIn); (got == conn) != test.taken || waited != test.waited {
					t.Errorf("got %v after %v", got, waited)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				switch {
				case test.taken:
					p.expectStats(t, 0, 1)
				case test.ok && !test.closed:
					p.expectStats(t, 1, 0)
				default:
					p.expectStats(t, 0, 0)
				}
			})
		})
	}
}

// A reset that ends just when the client stops waiting is not lost.
func TestPoolResetAtTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			p := Pool{MaxIdle: 1, inUse: 1}
			reset := p.startReset(newConn("x"))
			time.AfterFunc(resetWait, func() { p.finishReset(reset, true) })
			if p.take("x") != nil {
				p.expectStats(t, 0, 1)
				continue
			}
			synctest.Wait()
			p.expectStats(t, 1, 0)
		}
	})
}

func TestPoolCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Pool{MaxIdle: 2}
		first, second := newConn("x"), newConn("y")
		p.add(first)
		p.add(second)
		p.inUse++
		reset := p.startReset(newConn("z"))
		if p.Close(); !first.isClosed() || !second.isClosed() {
			t.Error("idle connections not closed")
		}
		if surplus := p.finishReset(reset, true); surplus != reset.conn {
			t.Error("connection kept by a closed pool")
		}
		p.expectStats(t, 0, 0)
	})
}

// After a timeout all idle connections to the same server are closed.
func TestPoolDropsTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Pool{MaxIdle: 10}
		var conns []*Conn
		for i := range 4 {
			conn := newConn(fmt.Sprint(i))
			conn.Address = fmt.Sprint(i % 2)
			p.add(conn)
			conns = append(conns, conn)
		}
		if p.Get("1", func(*Conn) error { return context.DeadlineExceeded }) != nil {
			t.Error("got a connection that is not valid")
		}
		for i, conn := range conns {
			if want := i%2 == 1; conn.isClosed() != want {
				t.Errorf("connection %d to server %s: closed %v", i, conn.Address, !want)
			}
		}
		p.expectStats(t, 2, 0)
	})
}
