package proxy

import (
	"cmp"
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// defaultArriving is how many clients may arrive at once if nobody says.
const defaultArriving = 1000

// arrivingGrace is how long a client has for its startup packet in any case. Those that
// people use send it at once; a TLS handshake with a thousand others takes its time.
const arrivingGrace = 2 * time.Second

// arrivals are the clients that have not said yet what they want. There are no more than
// so many: then the one that has been at it longest gives way to the next, if it has had its
// grace, and until then the next has to wait, with those behind it in the system's backlog.
// So whoever opens connections and says nothing holds up the others for seconds, and takes
// no more memory and descriptors than that.
type arrivals struct {
	most  int
	grace time.Duration
	room  chan struct{} // has one in it if there was none and may be now

	mu      sync.Mutex
	clients list.List // of *session, in their order
}

// open sets what a Proxy's zero values stand for.
func (a *arrivals) open(most int) {
	a.most, a.grace = cmp.Or(most, defaultArriving), cmp.Or(a.grace, arrivingGrace)
	a.room = make(chan struct{}, 1)
}

// enter returns when there is room for the client, or ctx is done.
func (a *arrivals) enter(ctx context.Context, s *session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.clients.Len() >= a.most && ctx.Err() == nil {
		first := a.clients.Front().Value.(*session)
		left := a.grace - time.Since(first.entered)
		if left <= 0 {
			a.remove(first)
			first.client.Socket().SetDeadline(netconn.LongAgo)
			break
		}
		a.mu.Unlock()
		a.wait(ctx, left)
		a.mu.Lock()
	}
	s.arrival, s.entered = a.clients.PushBack(s), time.Now()
}

// wait is over when there may be room, or after that long.
func (a *arrivals) wait(ctx context.Context, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-a.room:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// leave is for a client that has said what it wants, or never will. It reports whether it
// still had its place: else its reads and writes have failed for that.
func (a *arrivals) leave(s *session) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.arrival == nil {
		return false
	}
	a.remove(s)
	select {
	case a.room <- struct{}{}:
	default:
	}
	return true
}

// remove takes a client off the list. a.mu is held.
func (a *arrivals) remove(s *session) {
	a.clients.Remove(s.arrival)
	s.arrival = nil
}
