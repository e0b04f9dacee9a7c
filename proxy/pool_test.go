package proxy

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// lodger is a connection as the pool knows it.
func lodger(kind string) *upstream {
	return &upstream{address: "10.0.0.1:5432", spare: &spare{kind: kind, loggedIn: time.Now()}}
}

// lodge has a new connection be in use and then idle, and returns what had to go.
func (c *pool) lodge(server *upstream) *upstream {
	c.enter()
	coming := c.begin(server)
	if coming == nil {
		return server
	}
	return c.finish(coming, true)
}

func (c *pool) expectCounts(t *testing.T, idle, inUse int) {
	t.Helper()
	if got, want := c.counts(), (PoolCounts{Idle: idle, InUse: inUse}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// The last that became idle is the first to be taken; the kind has to be the same,
// to the byte; and what was idle longest goes first when there are too many.
func TestPoolOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pool{limit: 3}
		a, b, other, last := lodger("x"), lodger("x"), lodger("y"), lodger("x")
		for _, server := range []*upstream{a, b, other} {
			if out := c.lodge(server); out != nil {
				t.Errorf("%v had to go", out)
			}
			time.Sleep(time.Second)
		}
		if c.take("X") != nil || c.take("") != nil || c.take("xx") != nil {
			t.Error("got one of another kind")
		}
		if out := c.lodge(last); out != a {
			t.Errorf("%v had to go, want the one that was idle longest", out)
		}
		c.expectCounts(t, 3, 0)
		if c.take("x") != last || c.take("x") != b || c.take("x") != nil || c.take("y") != other {
			t.Error("taken in another order")
		}
		c.expectCounts(t, 0, 3)
		c.leave()
		c.expectCounts(t, 0, 2)
	})
}

// A connection is closed, and not handed over any more, 2 minutes after it became idle
// and 10 minutes after its login.
func TestPoolTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pool{limit: 3}
		const x = "x"
		server := lodger("x")
		c.lodge(server)
		time.Sleep(maxIdle - 1)
		if out := c.expire(time.Now()); out != nil || c.take(x) != server {
			t.Error("gone before it was idle for 2 minutes")
		}
		for range 4 { // it becomes 10 minutes old, and is never idle for long
			c.finish(c.begin(server), true)
			time.Sleep(maxIdle - 1)
			if c.take(x) != server {
				t.Fatal("gone before it was 10 minutes old")
			}
		}
		c.finish(c.begin(server), true)
		time.Sleep(5 * time.Nanosecond)
		if c.take(x) != nil {
			t.Error("handed over 10 minutes after its login")
		}
		if out := c.expire(time.Now()); len(out) != 1 || out[0] != server {
			t.Errorf("%v expired", out)
		}
		if out := c.lodge(server); out != server {
			t.Error("kept 10 minutes after its login")
		}
		idle := lodger("x")
		c.lodge(idle)
		time.Sleep(maxIdle)
		if c.take(x) != nil {
			t.Error("handed over after 2 minutes")
		}
		if out := c.expire(time.Now()); len(out) != 1 || out[0] != idle {
			t.Errorf("%v expired", out)
		}
		c.expectCounts(t, 0, 0)
	})
}

// Who finds none idle waits for one that is being reset, if nobody else does, and
// not for long.
func TestPoolWaitsForResets(t *testing.T) {
	for name, test := range map[string]struct {
		after  time.Duration
		well   bool
		closed bool
		taken  bool
		waited time.Duration
	}{
		"well":            {after: time.Millisecond, well: true, taken: true, waited: time.Millisecond},
		"failed":          {after: time.Millisecond, waited: time.Millisecond},
		"stopped":         {after: time.Millisecond, well: true, closed: true, waited: time.Millisecond},
		"too late":        {after: time.Second, well: true, waited: resetPatience},
		"failed too late": {after: time.Second, waited: resetPatience},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := pool{limit: 3}
				server := lodger("x")
				c.enter()
				coming := c.begin(server)
				if c.take("y") != nil || time.Since(server.spare.loggedIn) > 0 {
					t.Error("waited for one of another kind")
				}
				taken := make(chan *upstream)
				go func() { taken <- c.take("x") }()
				synctest.Wait()
				if c.take("x") != nil || time.Since(server.spare.loggedIn) > 0 {
					t.Error("waited for one that another waits for")
				}
				time.AfterFunc(test.after, func() {
					if test.closed {
						c.close()
					}
					c.finish(coming, test.well)
				})
				got := <-taken
				if waited := time.Since(server.spare.loggedIn); (got == server) != test.taken || waited != test.waited {
					t.Errorf("got %v after %v", got, waited)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				switch {
				case test.taken:
					c.expectCounts(t, 0, 1)
				case test.well && !test.closed:
					c.expectCounts(t, 1, 0)
				default:
					c.expectCounts(t, 0, 0)
				}
			})
		})
	}
}

// Where nobody waits any more a reset that has just ended is not lost.
func TestPoolEndOfPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			c := pool{limit: 1}
			c.enter()
			coming := c.begin(lodger("x"))
			time.AfterFunc(resetPatience, func() { c.finish(coming, true) }) // at the same time
			if c.take("x") != nil {
				c.expectCounts(t, 0, 1)
				continue
			}
			synctest.Wait()
			c.expectCounts(t, 1, 0)
		}
	})
}

func TestPoolCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pool{limit: 2}
		c.lodge(lodger("x"))
		c.lodge(lodger("y"))
		c.enter()
		coming := c.begin(lodger("z"))
		if out := c.close(); len(out) != 2 {
			t.Errorf("%d were closed", len(out))
		}
		if out := c.finish(coming, true); out != coming.server {
			t.Error("kept after that")
		}
		c.expectCounts(t, 0, 0)
	})
}

// All that lead to an address are dropped.
func TestPoolDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pool{limit: 10}
		for i := range 4 {
			server := lodger(fmt.Sprint(i))
			server.address = fmt.Sprint(i % 2)
			c.lodge(server)
		}
		if out := c.drop("1"); len(out) != 2 {
			t.Errorf("dropped %d", len(out))
		}
		if c.take("1") != nil || c.take("2") == nil {
			t.Error("dropped others")
		}
	})
}
