package proxy

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

const (
	// burst is the part of a second's logins that may begin at once, after a
	// pause: an application that opens its pool does not wait for it. Together
	// with a second's logins it has to stay below what the server takes in one.
	burst = 0.1
	// slowest is the least rate, in logins a second, to which a pacer slows down. It
	// is low since many proxies may be at it.
	slowest = 0.5
	// quicken is the part of the rate that comes back for each login that succeeds.
	quicken = 0.003
	// recoverEvery is how long it takes a rate to double by itself.
	recoverEvery = 10 * time.Second
	// slowDownEvery spaces the halvings: logins that are under way when the rate is
	// halved are of the old one.
	slowDownEvery = time.Second
)

// errQueueTooLong: waiting for its turn would take a login past its deadline.
var errQueueTooLong = errors.New("too many logins wait for their turn")

// pacer has logins begin one after the other, no more than rate a second, and
// those first whose clients came first: whoever has to try again is not put
// behind those who came later. It can be slowed down for a while.
type pacer struct {
	rate float64 // logins a second; 0: no limit but for that while

	mu      sync.Mutex
	slow    float64   // the rate at the time of changed, if it was slowed down; 0: never
	changed time.Time // the last time that slow was
	halved  time.Time // the last time that it was made less
	next    time.Time // when the next login may begin, were there no burst
	waiting turns
	timer   *time.Timer // for the first of waiting
}

// turn is a login that waits.
type turn struct {
	since time.Time // when its client came
	index int       // in the heap; negative: not any more
	come  chan struct{}
}

// begin reports whether a login may begin at once, and counts it then.
func (p *pacer) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting) == 0 && p.take(time.Now())
}

// wait returns when the login of a client that came at since may begin. The
// error is errQueueTooLong, at once, or that of ctx.
func (p *pacer) wait(ctx context.Context, since time.Time) error {
	p.mu.Lock()
	if len(p.waiting) == 0 && p.take(time.Now()) {
		p.mu.Unlock()
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok && !p.atBest(since).Before(deadline) {
		p.mu.Unlock()
		return errQueueTooLong
	}
	t := &turn{since: since, come: make(chan struct{})}
	heap.Push(&p.waiting, t)
	p.schedule()
	p.mu.Unlock()

	select {
	case <-t.come:
		return nil
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		if t.index >= 0 {
			heap.Remove(&p.waiting, t.index)
		}
		return ctx.Err()
	}
}

// atBest is when a login's turn comes if none of the others tries again and the
// server takes the full rate.
func (p *pacer) atBest(since time.Time) time.Time {
	before := 0
	for _, other := range p.waiting {
		if !other.since.After(since) {
			before++
		}
	}
	first := time.Now()
	if p.next.After(first) {
		first = p.next
	}
	return first.Add(time.Duration(float64(before) / p.top() * float64(time.Second)))
}

// take counts a login if it may begin now.
func (p *pacer) take(now time.Time) bool {
	rate := p.current()
	if rate == 0 {
		return true
	}
	allowance := time.Duration(burst * float64(time.Second))
	if p.next.After(now) {
		return false
	}
	if earliest := now.Add(-allowance); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(time.Duration(float64(time.Second) / rate))
	return true
}

// usualRate is what a pacer without a limit returns to, to be without one again.
const usualRate = 150

// top is the most that there is once it was slowed down.
func (p *pacer) top() float64 { return cmp.Or(p.rate, usualRate) }

// current is the rate of now; 0: no limit.
func (p *pacer) current() float64 {
	if p.slow == 0 {
		return p.rate
	}
	rate := p.slow * math.Exp2(float64(time.Since(p.changed))/float64(recoverEvery))
	if rate < p.top() {
		return rate
	}
	return p.rate
}

// schedule has the next turn called when it may begin.
func (p *pacer) schedule() {
	if len(p.waiting) == 0 {
		return
	}
	in := time.Until(p.next)
	if p.timer == nil {
		p.timer = time.AfterFunc(in, p.call)
		return
	}
	p.timer.Reset(in)
}

// call lets those begin whose turn it is.
func (p *pacer) call() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.waiting) > 0 && p.take(time.Now()) {
		close(heap.Pop(&p.waiting).(*turn).come)
	}
	p.schedule()
}

// slowDown is for a server that refuses logins for their number.
func (p *pacer) slowDown() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.halved) >= slowDownEvery {
		p.halved = now
		p.set(max(min(slowest, p.top()), cmp.Or(p.current(), p.top())/2))
	}
}

// succeeded is for one that takes them: the rate grows again.
func (p *pacer) succeeded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slow > 0 {
		p.set(min(p.top(), cmp.Or(p.current(), p.top())+p.top()*quicken))
	}
}

func (p *pacer) set(rate float64) { p.slow, p.changed = rate, time.Now() }

// turns is a heap, by how long their clients have waited.
type turns []*turn

func (t turns) Len() int           { return len(t) }
func (t turns) Less(i, j int) bool { return t[i].since.Before(t[j].since) }

func (t turns) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].index, t[j].index = i, j
}

func (t *turns) Push(x any) {
	added := x.(*turn)
	added.index = len(*t)
	*t = append(*t, added)
}

func (t *turns) Pop() any {
	last := (*t)[len(*t)-1]
	(*t)[len(*t)-1] = nil
	*t = (*t)[:len(*t)-1]
	last.index = -1
	return last
}
