// Package retry decides when logins begin, and whether a failed login is tried again.
//
// Logins that begin faster than the server accepts them are refused, and a refused token
// looks the same as one that the server will never accept. The package limits the rate of
// logins, remembers how earlier logins ended, and uses both to judge a failure.
package retry

import "time"

// Controller limits and judges the logins to one database. The zero value has no limit of
// its own; it still slows down for a server that refuses logins for their number. Its
// methods may be called concurrently.
type Controller struct {
	limiter limiter // of all users' logins
	history history
}

// SetRate sets the limit, in logins a second. If zero, there is none. It must be called
// before Begin.
func (c *Controller) SetRate(rate float64) { c.limiter.rate, c.history.rate = rate, rate }

// SetFleet sets that many processes with few logins each log in as the same users, such as
// execution environments of AWS Lambda. Any refused token may then be throttling. It must be
// called before Begin.
func (c *Controller) SetFleet(fleet bool) { c.history.fleet = fleet }

// Begin begins a login of user that may take until timeout. The caller ends it with End.
func (c *Controller) Begin(user string, timeout time.Duration) *Policy {
	u := c.history.begin(user)
	return &Policy{
		controller: c,
		user:       u,
		timeout:    timeout,
		began:      time.Now(),
		limiters:   [...]*limiter{&u.limiter, &c.limiter},
	}
}

// Authenticated records that the server has accepted a token of user.
func (c *Controller) Authenticated(user string) { c.history.noteAuthenticated(user) }

// KnownUsers returns the users of which the server has accepted a token, in no order. Their
// number is limited.
func (c *Controller) KnownUsers() []string { return c.history.knownUsers() }

// HasSucceeded reports whether a login has led to a session.
func (c *Controller) HasSucceeded() bool { return c.history.hasSucceeded() }
