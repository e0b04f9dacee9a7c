package retry

import (
	"sync"
	"time"

	"github.com/iamproxy/iamproxy/internal/age"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

const (
	// A refused token counts as throttling if busyLogins logins of the user are running, or
	// were within busyTime. So it does if several users were refused within busyTime whose
	// tokens the server had accepted. If it then accepts no token of any user, the refusals have
	// another cause.
	busyLogins = 5
	busyTime   = 10 * time.Second

	// maxUsers limits the users that are remembered. A client can send any user name.
	maxUsers = 1000

	// refusalLifetime is how long after a refusal the next one counts as part of the same
	// series.
	refusalLifetime = time.Minute
)

// history holds the outcomes of earlier logins. They distinguish a server that is unavailable
// for a moment from one that never answered. They also distinguish a user whose logins are
// throttled from one that may not log in.
type history struct {
	rate  float64 // full rate of each user's limiter
	fleet bool    // other processes log in as the same users

	mu        sync.Mutex
	succeeded bool // a login has
	users     map[string]*userState

	// Of users whose tokens the server had accepted:
	refused      *userState // the last one that was refused
	refusedAt    time.Time
	several      time.Time // the last time that another one was refused within busyTime
	refusedSince time.Time // the first refusal after a token of any user was accepted
}

// userState holds the outcomes of one user's logins. Users are throttled independently.
// But for the limiter, it is guarded by history.mu.
type userState struct {
	limiter limiter

	running       int       // logins
	busy          time.Time // the last time that busyLogins were running
	authenticated bool      // the server has accepted a token

	// Since the server has accepted a token:
	refusedSince time.Time // the first refusal of the series
	lastRefusal  time.Time
	refusal      *pgwire.ServerError // the last one

	limitReached time.Time // the server last refused a login for the number of logins
	limit        *pgwire.ServerError
}

// begin records the begin of a login of user.
func (h *history) begin(user string) *userState {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := h.user(user)
	u.running++
	u.noteBusy()
	return u
}

// end records the end of a login.
func (h *history) end(u *userState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	u.noteBusy()
	u.running--
}

// user returns the state of user. h.mu is held.
func (h *history) user(name string) *userState {
	if u := h.users[name]; u != nil {
		return u
	}
	if h.users == nil {
		h.users = make(map[string]*userState)
	}
	if len(h.users) >= maxUsers {
		for other, u := range h.users {
			if u.running == 0 { // any of them
				delete(h.users, other)
				break
			}
		}
	}
	u := &userState{limiter: limiter{rate: h.rate}}
	h.users[name] = u
	return u
}

func (u *userState) noteBusy() {
	if u.running >= busyLogins {
		u.busy = time.Now()
	}
}

// noteAuthenticated records that the server has accepted a token of user.
func (h *history) noteAuthenticated(user string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := h.user(user)
	u.authenticated = true
	u.refusedSince, u.lastRefusal, u.refusal = time.Time{}, time.Time{}, nil
	h.refusedSince = time.Time{}
	u.limiter.recover()
}

// knownUsers returns the users of which the server has accepted a token.
func (h *history) knownUsers() (users []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, u := range h.users {
		if u.authenticated {
			users = append(users, name)
		}
	}
	return users
}

func (h *history) noteSuccess() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.succeeded = true
}

func (h *history) hasSucceeded() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.succeeded
}

// lastRefusal returns the server's recent error that slows down the logins of u: that of a
// refused token, unless the server has accepted one since, or else that of the number of
// logins. It returns nil if there is none.
func (h *history) lastRefusal(u *userState) *pgwire.ServerError {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case u.refusal != nil && age.Of(u.lastRefusal) <= refusalLifetime:
		return u.refusal.Copy()
	case u.limit != nil && age.Of(u.limitReached) <= refusalLifetime:
		return u.limit.Copy()
	}
	return nil
}

// noteLimit records that the server refused a login for the number of logins, and throttles
// the user's.
func (h *history) noteLimit(u *userState, refusal *pgwire.ServerError) {
	h.mu.Lock()
	defer h.mu.Unlock()
	u.limit, u.limitReached = refusal, time.Now()
	u.limiter.throttle()
}

// noteRefusal records that a token was refused. It reports whether the server is likely to
// throttle: many logins of the user are running, here or in a fleet, or it refuses several users
// at once and has accepted one recently; and the series of refusals is not longer than a login is
// retried. In that case it throttles the user's logins.
func (h *history) noteRefusal(u *userState, refusal *pgwire.ServerError, timeout time.Duration) (throttled bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if age.At(now, u.lastRefusal) > refusalLifetime {
		u.refusedSince = now
	}
	u.lastRefusal, u.refusal = now, refusal
	u.noteBusy()
	busy := h.fleet || age.At(now, u.busy) < busyTime
	if u.authenticated {
		if h.refusedSince.IsZero() || age.At(now, h.refusedAt) > refusalLifetime {
			h.refusedSince = now
		}
		if h.refused != u && age.At(now, h.refusedAt) < busyTime {
			h.several = now
		}
		h.refused, h.refusedAt = u, now
		several := age.At(now, h.several) < busyTime && age.At(now, h.refusedSince) <= timeout/unprovenFraction
		busy = busy || several
	} else {
		timeout /= unprovenFraction
	}
	throttled = busy && age.At(now, u.refusedSince) <= timeout
	if throttled {
		u.limiter.throttle()
	}
	return throttled
}
