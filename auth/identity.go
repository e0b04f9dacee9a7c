package auth

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
)

const (
	// fetchTimeout limits one attempt to get credentials, other than from a process.
	fetchTimeout = 20 * time.Second
	// minRemaining is the remaining life at which credentials are refreshed: a
	// token's whole life, and a margin to use the last token in.
	minRemaining = lifetime + expiryMargin
	// transitTime is the time that a token may take to reach the server.
	transitTime = 2 * time.Second
	// While the credentials at hand are valid, the delay between attempts to
	// refresh them grows from minRetryDelay to maxRetryDelay. Without valid
	// credentials it is minRetryDelay.
	minRetryDelay, maxRetryDelay = time.Second, 30 * time.Second
	// invalidateInterval is the least time between two refreshes of credentials
	// because they were refused.
	invalidateInterval = time.Minute
)

// Identity provides the credentials that sign tokens. It caches the credentials
// and refreshes them before their remaining life is too short for a token, and
// when the AWS configuration files change. While the source fails, the cached
// credentials are used as long as they are valid.
//
// Load must be called first. After it, all other methods are safe for concurrent
// use, and the fields must not be changed.
type Identity struct {
	// Profile names a profile of the AWS configuration files. If it is empty,
	// AWS_PROFILE or else the SDK's default chain applies: environment, default
	// profile, web identity, container, instance.
	Profile string
	// Roles lists the ARNs of roles to assume in turn, the first one with the
	// credentials of the profile or chain.
	Roles []string
	// ExternalID is sent with the request to assume the last of Roles. It may be
	// empty.
	ExternalID string
	// Region is used for requests to AWS if neither the environment nor the profile
	// sets one.
	Region string
	// Log receives failures to refresh credentials, and warnings about the clock.
	// It may be nil.
	Log *zap.Logger

	fetching singleflight.Group
	verdicts verdicts
	clock    clock

	mu             sync.Mutex // not held during requests to AWS
	source         source     // as loaded; replaced when the files change
	files          files
	filesCheckedAt time.Time
	generation     generation
	invalidated    time.Time
	cached         cached
}

// generation counts the events that make fetched credentials outdated. When it
// changes, they are refreshed whatever their remaining life.
type generation struct {
	files         int // changes of the files; they may make earlier tokens invalid
	invalidations int // refused tokens; other tokens are likely to be valid
}

// source fetches credentials. It does not cache them.
type source interface {
	fetch(ctx context.Context) (aws.Credentials, error)
}

// cached holds the credentials of the last successful fetch, and the failures
// since.
type cached struct {
	creds      aws.Credentials
	generation generation
	refreshAt  time.Time // zero if never
	failures   int       // since the last success
	last       failure
}

// failure is a failed fetch.
type failure struct {
	err        error // nil if there was none
	generation generation
	at         time.Time
	hung       bool // it ended by fetchTimeout, and the SDK may still be waiting
}

func (c cached) valid(now time.Time) bool { return c.creds.HasKeys() && usable(c.creds, now) }

// usable reports whether the credentials can sign one more token.
func usable(creds aws.Credentials, now time.Time) bool {
	return !creds.CanExpire || now.Before(creds.Expires.Add(-transitTime))
}

// needsRefresh reports whether the credentials should be fetched again.
func (c cached) needsRefresh(now time.Time, current generation) bool {
	return !c.valid(now) || c.generation != current || !c.refreshAt.IsZero() && !now.Before(c.refreshAt)
}

// retryDelay returns how long to wait before the next fetch after a failure, or 0.
// It is also 0 if the clock has been set since.
func (c cached) retryDelay(now time.Time, current generation) time.Duration {
	if c.last.err == nil || c.last.generation != current {
		return 0
	}
	longest := minRetryDelay // logins are waiting
	if c.valid(now) {
		longest = maxRetryDelay
	}
	delay := min(minRetryDelay<<min(c.failures-1, 10), longest)
	return max(0, delay-now.Sub(c.last.at).Abs())
}

// snapshot returns valid credentials and their generation. The error is an *Error.
// It wraps the cause of ctx if the time ran out.
func (i *Identity) snapshot(ctx context.Context) (aws.Credentials, generation, error) {
	old, current := i.state()
	now := wallClock()
	if !old.needsRefresh(now, current) || old.valid(now) && old.retryDelay(now, current) > 0 {
		return old.creds, old.generation, nil
	}
	fetched := i.fetching.DoChan("", i.fetch)
	waitOver, stop := refreshTimer(old.valid(now))
	defer stop()
	for {
		select {
		case result := <-fetched:
			if result.Err == nil {
				fetched := result.Val.(cached)
				return fetched.creds, fetched.generation, nil
			}
			if old.valid(wallClock()) {
				return old.creds, old.generation, nil
			}
			return aws.Credentials{}, generation{}, result.Err
		case <-waitOver:
			if old.valid(wallClock()) {
				return old.creds, old.generation, nil
			}
		case <-ctx.Done():
			return aws.Credentials{}, generation{}, i.timeoutError(ctx)
		}
	}
}

// refreshTimer returns a channel that fires after refreshWait. If the wait is not
// limited, it returns a nil channel.
func refreshTimer(limited bool) (over <-chan time.Time, stop func()) {
	if !limited {
		return nil, func() {}
	}
	timer := time.NewTimer(refreshWait)
	return timer.C, func() { timer.Stop() }
}

// timeoutError returns the error of a caller whose time ran out.
func (i *Identity) timeoutError(ctx context.Context) *Error {
	cause := context.Cause(ctx)
	if running, ok := i.process().running(); ok {
		return newError(ReasonProcessTimeout, cause, "{profile}", i.profileName(), "{time}", seconds(running.Round(time.Second)))
	}
	detail := ""
	if !errors.Is(cause, context.DeadlineExceeded) { // which the message implies
		detail = ": " + cause.Error()
	}
	return newError(ReasonCredentialsTimeout, cause, "{cause}", detail)
}

// state returns the cached credentials and the current generation.
func (i *Identity) state() (cached, generation) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.cached, i.generation
}

// hasNewer reports whether credentials of a later generation exist or may be
// fetched: the last attempt to fetch them has not failed.
func (i *Identity) hasNewer(than generation) bool {
	c, current := i.state()
	failed := c.last.err != nil && c.last.generation == current
	return than != current && !failed
}

// currentGeneration returns the current generation. It checks the files for
// changes once a second.
func (i *Identity) currentGeneration() generation {
	i.mu.Lock()
	defer i.mu.Unlock()
	if now := wallClock(); now.Sub(i.filesCheckedAt).Abs() >= time.Second {
		i.filesCheckedAt = now
		if files := statFiles(); files != i.files {
			i.files = files
			i.generation.files++
		}
	}
	return i.generation
}

// Invalidate makes the next caller fetch the credentials again, after a database refused a token
// that they signed or AWS rejected them. It does so once a minute at most, since refusals often
// have other causes.
func (i *Identity) Invalidate() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if now := wallClock(); now.Sub(i.invalidated).Abs() >= invalidateInterval {
		i.invalidated = now
		i.generation.invalidations++
	}
}

// fetch fetches credentials and returns the new cached state. It runs once at a
// time and does not end with the caller that started it.
func (i *Identity) fetch() (any, error) {
	before, current := i.state()
	if !before.needsRefresh(wallClock(), current) {
		return before, nil // fetched by an earlier call meanwhile
	}
	if rest := before.retryDelay(wallClock(), current); rest > 0 {
		time.Sleep(rest)
		before, current = i.state() // the files may have changed
	}
	ctx, cancel := context.WithTimeout(context.Background(), i.FetchTimeout())
	defer cancel()
	if before.generation != current || before.last.hung {
		i.reload(ctx)
	}
	creds, err := i.loaded().fetch(ctx)
	if err == nil {
		err = checkUsable(creds)
	}
	if err != nil {
		i.log().Debug("AWS credentials could not be fetched", zap.String("chain", redact(err)))
		err = i.explain(err, before.creds.HasKeys())
	}
	after := before.next(creds, current, err)
	after.last.hung = ctx.Err() != nil
	i.mu.Lock()
	i.cached = after
	i.mu.Unlock()
	i.logChange(before, after)
	if err == nil {
		i.verdicts.notify()
	}
	return after, err
}

// next returns the state after a fetch.
func (c cached) next(creds aws.Credentials, current generation, err error) cached {
	now := wallClock()
	if err != nil {
		c.failures++
		c.last = failure{err: err, generation: current, at: now}
		return c
	}
	c = cached{creds: creds, generation: current}
	if creds.CanExpire {
		// If the credentials are short-lived, or the source returns the same ones
		// again, left/3 limits the number of requests.
		left := creds.Expires.Sub(now)
		c.refreshAt = now.Add(max(left-minRemaining, left/3))
	}
	return c
}

// checkUsable returns an error if the credentials cannot sign.
func checkUsable(creds aws.Credentials) error {
	switch {
	case !creds.HasKeys():
		return newError(ReasonCredentialsIncomplete, nil, "{source}", creds.Source)
	case !usable(creds, wallClock()):
		return newError(ReasonCredentialsExpired, nil, "{time}", creds.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// logChange logs the result of a fetch. It does not log that there are no valid
// credentials at all, which is the error of each login.
func (i *Identity) logChange(before, after cached) {
	switch log := i.log(); {
	case after.last.err == nil && before.last.err != nil:
		log.Info("AWS credentials refreshed after failures", i.fields(after)...)
	case after.last.err != nil && after.valid(wallClock()):
		log.Warn("could not refresh AWS credentials; using the current ones until they expire",
			append(i.fields(after), zap.Error(after.last.err))...)
	case after.last.err == nil:
		log.Debug("AWS credentials fetched", i.fields(after)...)
	}
}

func (i *Identity) fields(c cached) []zap.Field {
	fields := []zap.Field{zap.String("source", i.sourceOf(c.creds).String())}
	if c.creds.CanExpire {
		fields = append(fields, zap.Time("valid_until", c.creds.Expires))
	}
	return fields
}

func (i *Identity) log() *zap.Logger {
	if i.Log == nil {
		return zap.NewNop()
	}
	return i.Log
}

func (i *Identity) loaded() source {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.source
}

// process returns the credential_process that is the source, or nil.
func (i *Identity) process() *process {
	if chain, ok := i.loaded().(*chain); ok {
		return chain.process
	}
	return nil
}

// FetchTimeout returns the limit of one attempt to get credentials. It is minutes for a
// credential_process, which may wait for a person.
func (i *Identity) FetchTimeout() time.Duration {
	if chain, ok := i.loaded().(*chain); ok {
		return chain.timeout()
	}
	return fetchTimeout
}

// wallClock returns the time without its monotonic reading, which stops while a
// computer sleeps. Credentials and tokens expire by the wall clock.
func wallClock() time.Time { return time.Now().Round(0) }
