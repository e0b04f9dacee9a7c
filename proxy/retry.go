package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

const (
	// A login that may succeed a little later is tried again after firstPause,
	// and then twice as long each time, up to longestPause.
	firstPause, longestPause = 250 * time.Millisecond, time.Second
	// load is how many logins of a user have to be under way, or to have been within
	// loadLasts, for a refusal to be taken for throttling.
	load      = 5
	loadLasts = 10 * time.Second
	// maxUsers bounds what is remembered: a client may claim any user name.
	maxUsers = 1000
	// forgetRefusals is how long after the last of them refusals count.
	forgetRefusals = time.Minute
)

// strangersShare is the part of --connect-timeout for which a login is tried that
// has nothing to show for it: a server that never answered, a user who was never
// let in.
const strangersShare = 3

// history is what became of the logins so far. It tells a server that is busy
// or away for a moment from one that was never there, and a user whose logins
// are throttled from one who may not log in.
type history struct {
	rate float64 // of each user's pacer

	mu     sync.Mutex
	worked bool // a login has succeeded
	users  map[string]*record
}

// record is of one user. What one may not do is nothing to another.
type record struct {
	underWay                  int       // logins
	loaded                    time.Time // when there were many of them last
	letIn                     bool
	refusedSince, lastRefusal time.Time           // since the user was let in last
	said                      *pgwire.ServerError // with the last refusal
	pacer                     pacer               // slows this one down
}

// of is the user's record. h.mu is held.
func (h *history) of(user string) *record {
	if r := h.users[user]; r != nil {
		return r
	}
	if h.users == nil {
		h.users = make(map[string]*record)
	}
	if len(h.users) >= maxUsers {
		for other, r := range h.users {
			if r.underWay == 0 { // any one of them
				delete(h.users, other)
				break
			}
		}
	}
	r := &record{pacer: pacer{rate: h.rate}}
	h.users[user] = r
	return r
}

// begin counts a user's login, until the function that it returns is called.
func (h *history) begin(user string) (end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.of(user)
	r.underWay++
	r.noteLoad()
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		r.noteLoad()
		r.underWay--
	}
}

func (r *record) noteLoad() {
	if r.underWay >= load {
		r.loaded = time.Now()
	}
}

// letIn notes that the server has taken user's token.
func (h *history) letIn(user string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.of(user)
	r.letIn, r.refusedSince, r.lastRefusal, r.said = true, time.Time{}, time.Time{}, nil
	r.pacer.succeeded()
}

// members are the users that were let in.
func (h *history) members() (users []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for user, r := range h.users {
		if r.letIn {
			users = append(users, user)
		}
	}
	return users
}

func (h *history) succeeded() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.worked = true
}

func (h *history) hasWorked() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.worked
}

// refusal is what the server has said to a token of the user's just now, if it has
// not taken one since; nil otherwise.
func (h *history) refusal(user string) *pgwire.ServerError {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.of(user)
	if r.said == nil || time.Since(r.lastRefusal) > forgetRefusals {
		return nil
	}
	return r.said.Copy()
}

// refused notes that user's token was refused, and reports whether that is
// likely to be for the number of logins: there are many of them, and it has not
// been going on for so long that it must be for another reason. Then the user's
// next ones come slower.
func (h *history) refused(user string, said *pgwire.ServerError, timeout time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	r := h.of(user)
	if now.Sub(r.lastRefusal) > forgetRefusals {
		r.refusedSince = now
	}
	r.lastRefusal, r.said = now, said
	if !r.letIn {
		timeout /= strangersShare
	}
	r.noteLoad()
	throttled := now.Sub(r.loaded) < loadLasts && now.Sub(r.refusedSince) <= timeout
	if throttled {
		r.pacer.slowDown()
	}
	return throttled
}

// pacer is the user's own.
func (h *history) pacer(user string) *pacer {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &h.of(user).pacer
}

// persistence decides whether a login that failed is tried again.
type persistence struct {
	history *history
	pacer   *pacer // of all logins
	user    string
	timeout time.Duration // of the whole login
	began   time.Time

	refusals int // of tokens
	failures int
}

// pacers are those whose turns a login waits for, one after the other.
func (p *persistence) pacers() []*pacer {
	return []*pacer{p.history.pacer(p.user), p.pacer}
}

// outlook is whether there is another token than one that was refused.
type outlook int

const (
	noOther    outlook = iota
	otherLater         // when the second is over: tokens of the same one are the same
	otherNow
)

// again reports whether another attempt may succeed where the last one failed
// with err, and how long to wait for it. other is about refused tokens.
func (p *persistence) again(err error, other outlook) (pause time.Duration, yes bool) {
	p.failures++
	var refusal *pgwire.ServerError
	switch {
	case errors.As(err, &refusal) && refusal.IsAuthFailure():
		return p.afterRefusal(refusal, other)
	case errors.As(err, &refusal) && refusal.IsRateLimit():
		p.history.pacer(p.user).slowDown()
		return p.backOff(), true
	case errors.As(err, &refusal):
		return p.backOff(), refusal.IsShutdown()
	case isNotWriter(err):
		return p.backOff(), true
	case p.history.hasWorked():
		return p.backOff(), isTransient(err, true)
	default:
		return p.backOff(), isTransient(err, false) && (noAnswer(err) || time.Since(p.began) < p.timeout/strangersShare)
	}
}

// afterRefusal: once with a fresh token, and then only if that was throttling.
func (p *persistence) afterRefusal(refusal *pgwire.ServerError, other outlook) (pause time.Duration, yes bool) {
	p.refusals++
	throttled := p.history.refused(p.user, refusal, p.timeout)
	switch {
	case p.refusals == 1 && other == otherNow:
		return 0, true
	case throttled:
		return p.backOff(), true
	default:
		return time.Second + jitter(time.Second/2), p.refusals == 1 && other == otherLater
	}
}

// backOff is longer each time.
func (p *persistence) backOff() time.Duration {
	return jitter(min(firstPause<<min(p.failures-1, 10), longestPause))
}

// jitter is d, give or take half of it: those that failed together are not to
// come back together.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d) //nolint:gosec // nobody has to be kept from guessing it
}

// isTransient reports whether what failed an attempt may be over in a moment. Errors of the
// steps say so themselves; a connection that broke or got no answer during login is that of
// a server that restarts, or has moved.
func isTransient(err error, seenBefore bool) bool {
	var own *pgwire.Error
	if errors.As(err, &own) {
		return own.Transient == pgwire.Transient || own.Transient == pgwire.IfSeenBefore && seenBefore
	}
	return !errors.Is(err, errClientLeft)
}

// noAnswer is about attempts to connect that ran out of their own time: waiting
// is what their servers leave to do.
func noAnswer(err error) bool {
	var known *pgwire.Error
	return !errors.As(err, &known) && netconn.IsTimeout(err)
}

// sleep reports whether d is over. If ctx would be done before, it is not even
// begun.
func sleep(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
