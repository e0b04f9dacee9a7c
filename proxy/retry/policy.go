package retry

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// The pause before a retry is about firstPause, and doubles with each failure up to maxPause.
const (
	firstPause = 250 * time.Millisecond
	maxPause   = time.Second
)

// A login is retried for 1/unprovenFraction of its timeout only, if no earlier login has
// succeeded: none to the server, or none of the user.
const unprovenFraction = 3

// Policy decides about the attempts of one login. It is not safe for concurrent use.
type Policy struct {
	controller *Controller
	user       *userState
	timeout    time.Duration // of the whole login
	began      time.Time

	limiters [2]*limiter // the user's and that of all users, both of which an attempt passes
	passed   int         // limiters that the next attempt has passed

	failures int // failed attempts
	refusals int // refused tokens
}

// NextToken specifies which token the next attempt would use after a refused one.
type NextToken int

const (
	SameToken     NextToken = iota
	NewTokenLater           // a new one from the next second on: tokens of one second are equal
	NewToken
)

// Tokens is a source of tokens.
type Tokens interface {
	// Token returns user's token.
	Token(ctx context.Context, user string) (string, error)
	// Invalidate records that the server refused a token, and reports whether there is or
	// will be another one.
	Invalidate(user, token string) (another bool)
}

// Replace invalidates the token of an attempt that failed with err, if the server refused it.
// It returns what is known of the next attempt's token.
func Replace(ctx context.Context, tokens Tokens, user, token string, err error) NextToken {
	var server *pgwire.ServerError
	if !errors.As(err, &server) || !server.IsAuthFailure() || !tokens.Invalidate(user, token) {
		return SameToken
	}
	if next, err := tokens.Token(ctx, user); err != nil || next == token {
		return NewTokenLater
	}
	return NewToken
}

// Allow reports whether the next attempt may begin at once. If it may not, the caller calls
// Wait.
func (p *Policy) Allow() bool {
	for _, l := range p.limiters[p.passed:] {
		if !l.allow() {
			return false
		}
		p.passed++
	}
	p.passed = 0
	return true
}

// Wait waits until the next attempt may begin. If that is not before the deadline of ctx, it
// returns an error with the reason pgwire.QueueFull. If the user's own limiter is full because
// the server refuses the user's logins, it returns the server's last refusal instead. If ctx
// is canceled, it returns the cause.
func (p *Policy) Wait(ctx context.Context) error {
	for _, l := range p.limiters[p.passed:] {
		if err := l.wait(ctx, p.began); err != nil {
			return p.waitError(l, err)
		}
		p.passed++
	}
	p.passed = 0
	return nil
}

// waitError returns the error of a login for which l.wait has failed with err.
func (p *Policy) waitError(l *limiter, err error) error {
	if !errors.Is(err, errQueueFull) {
		return err
	}
	if l == &p.user.limiter {
		if refusal := p.controller.history.lastRefusal(p.user); refusal != nil {
			return refusal
		}
	}
	return pgwire.NewError(pgwire.QueueFull, err, p.timeout)
}

// Next reports whether another attempt may succeed after one that failed with err, and how
// long to wait before it. next counts only if the server refused the token. The caller does
// not call Next if its client has disconnected.
func (p *Policy) Next(err error, next NextToken) (pause time.Duration, again bool) {
	p.failures++
	var server *pgwire.ServerError
	switch {
	case errors.As(err, &server) && server.IsAuthFailure():
		return p.afterRefusal(server, next)
	case errors.As(err, &server) && server.IsRateLimit():
		p.controller.history.noteLimit(p.user, server)
		return p.backOff(), true
	case errors.As(err, &server):
		return p.backOff(), server.IsShutdown()
	case pgwire.ReasonOf(err) == pgwire.NotWritable:
		return p.backOff(), true
	case p.controller.history.hasSucceeded():
		return p.backOff(), isTransient(err, true)
	default:
		inTime := isUnanswered(err) || time.Since(p.began) < p.timeout/unprovenFraction
		return p.backOff(), isTransient(err, false) && inTime
	}
}

// afterRefusal decides about a refused token. It is replaced once; after that, only
// throttling is a reason for another attempt.
func (p *Policy) afterRefusal(refusal *pgwire.ServerError, next NextToken) (pause time.Duration, again bool) {
	p.refusals++
	throttled := p.controller.history.noteRefusal(p.user, refusal, p.timeout)
	switch {
	case p.refusals == 1 && next == NewToken:
		return 0, true
	case throttled:
		return p.backOff(), true
	default:
		return time.Second + jitter(time.Second/2), p.refusals == 1 && next == NewTokenLater
	}
}

// Succeeded records that the login has led to a session.
func (p *Policy) Succeeded() { p.controller.history.noteSuccess() }

// End ends the login, successful or not.
func (p *Policy) End() { p.controller.history.end(p.user) }

// backOff returns the pause after the last failure.
func (p *Policy) backOff() time.Duration {
	return jitter(min(firstPause<<min(p.failures-1, 10), maxPause))
}

// jitter returns d plus or minus up to a half, so that logins that failed together are not
// retried together.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d) //nolint:gosec // it need not be unpredictable
}

// isTransient reports whether the cause of err may be gone in a moment. A pgwire.Error
// carries the answer. Any other error is a connection that broke or got no answer during
// login, as of a server that restarts or has moved.
func isTransient(err error, seenBefore bool) bool {
	var own *pgwire.Error
	if errors.As(err, &own) {
		return own.Transience == pgwire.Transient || own.Transience == pgwire.IfSeenBefore && seenBefore
	}
	return true
}

// isUnanswered reports whether an attempt to connect ended by its own timeout. The server
// gave no answer to judge, so the login waits as long as it may.
func isUnanswered(err error) bool {
	var own *pgwire.Error
	return !errors.As(err, &own) && netconn.IsTimeout(err)
}

// Sleep waits for d. If ctx is done before, it returns the cause of ctx. If d ends after the
// deadline of ctx, it returns context.DeadlineExceeded at once.
func Sleep(ctx context.Context, d time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return context.DeadlineExceeded
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
