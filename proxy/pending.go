package proxy

import (
	"cmp"
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/iamproxy/iamproxy/internal/age"
	"github.com/iamproxy/iamproxy/proxy/netconn"
)

const (
	defaultMaxPending = 1000
	// pendingGrace is the minimum time that a client has for its startup packet. Clients send
	// it at once; a TLS handshake beside a thousand others takes longer.
	pendingGrace = 2 * time.Second
)

// pendingConns are the connections whose client has not sent its startup packet. At the
// limit, the oldest connection past its grace period is evicted for the next one. Until
// there is one, the next connection waits, and others wait in the system's backlog. So clients
// that connect and stay silent delay others for seconds at most, and their memory and
// descriptors are limited.
type pendingConns struct {
	limit int
	grace time.Duration
	room  chan struct{} // has an element if there was no room and may be now

	mu    sync.Mutex
	conns list.List // of *pendingConn, the oldest first
}

// pendingConn is a connection on the list.
type pendingConn struct {
	conn  *netconn.Conn
	since time.Time
	elem  *list.Element // nil if it is not on the list
}

// init sets the values that zero values stand for.
func (p *pendingConns) init(limit int) {
	p.limit, p.grace = cmp.Or(limit, defaultMaxPending), cmp.Or(p.grace, pendingGrace)
	p.room = make(chan struct{}, 1)
}

// add returns when there is room for the connection, or ctx is done.
func (p *pendingConns) add(ctx context.Context, conn *netconn.Conn) *pendingConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.conns.Len() >= p.limit && ctx.Err() == nil {
		oldest := p.conns.Front().Value.(*pendingConn)
		left := p.grace - age.Of(oldest.since)
		if left <= 0 {
			p.unlist(oldest)
			oldest.conn.Socket().SetDeadline(netconn.LongAgo)
			break
		}
		p.mu.Unlock()
		p.waitForRoom(ctx, left)
		p.mu.Lock()
	}
	added := &pendingConn{conn: conn, since: time.Now()}
	added.elem = p.conns.PushBack(added)
	return added
}

// waitForRoom returns when there may be room, or after the timeout.
func (p *pendingConns) waitForRoom(ctx context.Context, timeout time.Duration) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.room:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// remove takes a connection off the list. It reports false if the connection was evicted:
// then its reads and writes have failed.
func (p *pendingConns) remove(c *pendingConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.elem == nil {
		return false
	}
	p.unlist(c)
	select {
	case p.room <- struct{}{}:
	default:
	}
	return true
}

// unlist takes a connection off the list. p.mu is held.
func (p *pendingConns) unlist(c *pendingConn) {
	p.conns.Remove(c.elem)
	c.elem = nil
}
