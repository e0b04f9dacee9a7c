package retry

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/iamproxy/iamproxy/internal/age"
)

const (
	// burst is the time whose logins may begin at once after a pause, so that an
	// application that opens its pool does not wait. Together with the logins of one
	// second they have to stay below what the server accepts in a second.
	burst = 100 * time.Millisecond

	// minRate is the lowest rate, in logins a second, to which a limiter is throttled. It
	// is low because many proxies may connect to one server.
	minRate = 0.5

	// increase is the part of the full rate that a throttled limiter regains with each
	// successful login.
	increase = 0.003

	// doublingTime is the time in which the rate of a throttled limiter doubles by itself.
	doublingTime = 10 * time.Second

	// throttleInterval is the minimum time between two halvings of the rate. A login that
	// was running at the first one is no evidence about the halved rate.
	throttleInterval = time.Second

	// defaultRate is the rate up to which a limiter without a limit recovers. Beyond it,
	// the limiter has no limit again.
	defaultRate = 150
)

// errQueueFull is the error of a login that would have to wait beyond its deadline.
var errQueueFull = errors.New("too many logins are waiting")

// limiter limits the rate at which logins begin. Of those that wait, the earliest is the
// next: a retry keeps its place in the queue. The rate can be reduced for a while.
//
// The zero value has no limit until it is throttled.
type limiter struct {
	rate float64 // full rate, in logins a second; 0: no limit

	mu        sync.Mutex
	reduced   float64   // the rate at the time of changed, if it was throttled; otherwise 0
	changed   time.Time // when reduced was set
	throttled time.Time // when the rate was halved
	next      time.Time // when the next login may begin, burst aside
	queue     waiters
	timer     *time.Timer // calls admit for the first of queue
}

// waiter is a login in the queue of a limiter.
type waiter struct {
	since time.Time     // begin of the login
	index int           // in the queue; negative once it has left the queue
	admit chan struct{} // closed when the login may begin
}

// allow reports whether a login may begin at once. If so, it is counted.
func (l *limiter) allow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) == 0 && l.take(time.Now())
}

// wait waits until a login that began at since may proceed. It fails at once with
// errQueueFull if the deadline of ctx does not suffice, and with the cause of ctx if ctx is
// done before.
func (l *limiter) wait(ctx context.Context, since time.Time) error {
	l.mu.Lock()
	if len(l.queue) == 0 && l.take(time.Now()) {
		l.mu.Unlock()
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok && !l.earliest(since).Before(deadline) {
		l.mu.Unlock()
		return errQueueFull
	}
	w := &waiter{since: since, admit: make(chan struct{})}
	heap.Push(&l.queue, w)
	l.schedule()
	l.mu.Unlock()

	select {
	case <-w.admit:
		return nil
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		if w.index >= 0 {
			heap.Remove(&l.queue, w.index)
		}
		if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
			return cause
		}
		return errQueueFull
	}
}

// earliest returns when a login can begin if no other is retried and the server accepts the
// full rate. l.mu is held.
func (l *limiter) earliest(since time.Time) time.Time {
	ahead := 0
	for _, other := range l.queue {
		if !other.since.After(since) {
			ahead++
		}
	}
	first := time.Now()
	if l.next.After(first) {
		first = l.next
	}
	return first.Add(time.Duration(ahead) * interval(l.fullRate()))
}

// take counts a login if it may begin now. l.mu is held.
func (l *limiter) take(now time.Time) bool {
	rate := l.currentRate()
	if rate == 0 {
		return true
	}
	since := age.At(now, l.next)
	if since < 0 {
		return false
	}
	l.next = now.Add(-min(since, burst))
	l.next = l.next.Add(interval(rate))
	return true
}

// interval returns the time between two logins at a rate.
func interval(rate float64) time.Duration {
	return time.Duration(float64(time.Second) / rate)
}

// fullRate returns the rate of a limiter that is not throttled any more.
func (l *limiter) fullRate() float64 { return cmp.Or(l.rate, defaultRate) }

// currentRate returns the rate at this moment; 0 means that there is no limit. l.mu is held.
func (l *limiter) currentRate() float64 {
	if l.reduced == 0 {
		return l.rate
	}
	rate := l.reduced * math.Exp2(float64(age.Of(l.changed))/float64(doublingTime))
	if rate < l.fullRate() {
		return rate
	}
	return l.rate
}

// schedule sets the timer for the first of the queue. l.mu is held.
func (l *limiter) schedule() {
	if len(l.queue) == 0 {
		return
	}
	in := time.Until(l.next)
	if l.timer == nil {
		l.timer = time.AfterFunc(in, l.admit)
		return
	}
	l.timer.Reset(in)
}

// admit admits the waiters that may begin now.
func (l *limiter) admit() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) > 0 && l.take(time.Now()) {
		close(heap.Pop(&l.queue).(*waiter).admit)
	}
	l.schedule()
}

// throttle halves the rate. It is called when the server refuses a login for the number of
// logins.
func (l *limiter) throttle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); age.At(now, l.throttled) >= throttleInterval {
		l.throttled = now
		l.reduce(max(min(minRate, l.fullRate()), cmp.Or(l.currentRate(), l.fullRate())/2))
	}
}

// recover raises the rate of a throttled limiter. It is called when the server accepts a
// login.
func (l *limiter) recover() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reduced > 0 {
		l.reduce(min(l.fullRate(), cmp.Or(l.currentRate(), l.fullRate())+l.fullRate()*increase))
	}
}

// reduce sets the rate of this moment. l.mu is held.
func (l *limiter) reduce(rate float64) { l.reduced, l.changed = rate, time.Now() }

// waiters is a heap of waiters, the earliest first.
type waiters []*waiter

func (q waiters) Len() int           { return len(q) }
func (q waiters) Less(i, j int) bool { return q[i].since.Before(q[j].since) }

func (q waiters) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *waiters) Push(x any) {
	w := x.(*waiter)
	w.index = len(*q)
	*q = append(*q, w)
}

func (q *waiters) Pop() any {
	last := (*q)[len(*q)-1]
	(*q)[len(*q)-1] = nil
	*q = (*q)[:len(*q)-1]
	last.index = -1
	return last
}
