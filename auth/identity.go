package auth

import (
	"context"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
)

const (
	// fetchTimeout bounds one attempt to get credentials.
	fetchTimeout = 20 * time.Second
	// enough time left for a whole token, and a minute to use its last second in.
	minRemaining = lifetime + expiryMargin
	// onTheWay is how long it may take until what was signed is looked at.
	transitTime = 2 * time.Second
	// The pauses between attempts to get credentials from a source that fails grow
	// from the first to the second, while there are others. In need they do not.
	minRetryDelay, maxRetryDelay = time.Second, 30 * time.Second
	// distrustEvery spaces the refusals that have the credentials fetched anew.
	invalidateInterval = time.Minute
)

// Identity is who signs: the source of the credentials, and those that it gave
// last. They are fetched anew before they are too short-lived for a token, and
// when the files that they come from change. While the source fails they are
// used as long as they are valid. All methods may be called concurrently, after
// Load; the fields must not change after that.
type Identity struct {
	// Profile is of the files of the AWS CLI. If empty, AWS_PROFILE or, without
	// that, whatever the SDK's chain finds (environment, default profile, web
	// identity, container, instance).
	Profile string
	// Roles are ARNs of roles that are assumed on top of that, each by the one
	// before.
	Roles []string
	// ExternalID is what the owner of the last of Roles wants to be told. May be
	// empty.
	ExternalID string
	// Region is where AWS is asked if neither environment nor profile names one.
	Region string
	// Log is told of a source that fails while its credentials still hold, and
	// of a clock that is off. If nil, nobody is.
	Log *zap.Logger

	fetching    singleflight.Group
	callerCache callerCache
	clock       clock

	mu             sync.Mutex // never held while AWS is asked
	source         source     // as loaded; replaced when the files change
	files          files
	filesCheckedAt time.Time // at the files
	generation     generation
	invalidated    time.Time
	cached         cached
	lastCaller     lastCaller
}

// epoch changes when credentials are to be fetched anew, whatever time they have
// left.
type generation struct {
	files         int // how often the files have changed: tokens signed before may be worth nothing
	invalidations int // how often a token was refused: the others are likely to be good
}

// source is where credentials come from. Fetch asks it; nothing in it keeps
// what it gave.
type source interface {
	fetch(ctx context.Context) (aws.Credentials, error)
}

// held is what the source gave last, and how it has failed since.
type cached struct {
	creds      aws.Credentials
	generation generation
	renewAt    time.Time // zero: never
	failures   int       // in a row
	last       failure
}

// failure is one of the source's.
type failure struct {
	err        error // nil: there was none
	generation generation
	at         time.Time
	hung       bool // it may still be at it
}

func (h cached) valid(now time.Time) bool { return h.creds.HasKeys() && usable(h.creds, now) }

// lasts reports whether credentials are good for one more token.
func usable(creds aws.Credentials, now time.Time) bool {
	return !creds.CanExpire || now.Before(creds.Expires.Add(-transitTime))
}

// due credentials are fetched anew, if their source can be had.
func (h cached) needsRefresh(now time.Time, current generation) bool {
	return !h.valid(now) || h.generation != current || !h.renewAt.IsZero() && !now.Before(h.renewAt)
}

// rest is how long the source is still left alone, because it has failed just now.
// If the clock was set since, that is long enough ago.
func (h cached) retryDelay(now time.Time, current generation) time.Duration {
	if h.last.err == nil || h.last.generation != current {
		return 0
	}
	longest := minRetryDelay // as soon as it is mended, it is to work
	if h.valid(now) {
		longest = maxRetryDelay
	}
	pause := min(minRetryDelay<<min(h.failures-1, 10), longest)
	return max(0, pause-now.Sub(h.last.at).Abs())
}

// snapshot returns valid credentials and the epoch that they are of. The error
// is an *Error, around that of ctx if it was the caller's time that ran out.
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
			if old.valid(wallClock()) { // still
				return old.creds, old.generation, nil
			}
		case <-ctx.Done():
			return aws.Credentials{}, generation{}, timeoutError(ctx)
		}
	}
}

// patienceIf runs out if there is something else to do than to wait.
func refreshTimer(limited bool) (over <-chan time.Time, stop func()) {
	if !limited {
		return nil, func() {}
	}
	timer := time.NewTimer(refreshWait)
	return timer.C, func() { timer.Stop() }
}

func timeoutError(ctx context.Context) *Error {
	cause := context.Cause(ctx)
	return newError(ReasonCredentialsTimeout, cause, "{cause}", cause.Error())
}

// look returns what is held, and the current epoch.
func (i *Identity) state() (cached, generation) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.cached, i.generation
}

// hasNewer reports whether there are, or may be, credentials of a later epoch: their
// source has not just failed to give any.
func (i *Identity) hasNewer(than generation) bool {
	h, current := i.state()
	failed := h.last.err != nil && h.last.generation == current
	return than != current && !failed
}

// now is the current epoch, after a look at the files.
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

// distrust says that a database refused what these credentials signed. They are
// fetched anew for it, but only once a minute: it may well be for another reason.
func (i *Identity) invalidate() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if now := wallClock(); now.Sub(i.invalidated).Abs() >= invalidateInterval {
		i.invalidated = now
		i.generation.invalidations++
	}
}

// fetch asks the source, and returns what is held then. It runs once at a time,
// and not on behalf of one caller: those that wait for it may leave.
func (i *Identity) fetch() (any, error) {
	before, current := i.state()
	if !before.needsRefresh(wallClock(), current) {
		return before, nil // fetched between the caller's look and now
	}
	if rest := before.retryDelay(wallClock(), current); rest > 0 {
		time.Sleep(rest)
		before, current = i.state() // the files may have changed
	}
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	if before.generation != current || before.last.hung {
		i.reload(ctx)
	}
	creds, err := i.loaded().fetch(ctx)
	if err == nil {
		err = checkUsable(creds)
	}
	if err != nil {
		err = i.explain(err, before.creds.HasKeys())
	}
	after := before.next(creds, current, err)
	after.last.hung = ctx.Err() != nil
	i.mu.Lock()
	i.cached = after
	i.mu.Unlock()
	i.logChange(before, after)
	return after, err
}

// next is what is held after an attempt to fetch.
func (h cached) next(creds aws.Credentials, current generation, err error) cached {
	now := wallClock()
	if err != nil {
		h.failures++
		h.last = failure{err: err, generation: current, at: now}
		return h
	}
	h = cached{creds: creds, generation: current}
	if creds.CanExpire {
		// Early enough for a whole token. If they were short from the start, or
		// the source has no others yet, it is not asked all the time.
		left := creds.Expires.Sub(now)
		h.renewAt = now.Add(max(left-minRemaining, left/3))
	}
	return h
}

// unusable reports why credentials cannot sign.
func checkUsable(creds aws.Credentials) error {
	switch {
	case !creds.HasKeys():
		return newError(ReasonCredentialsIncomplete, nil, "{source}", creds.Source)
	case !usable(creds, wallClock()):
		return newError(ReasonCredentialsExpired, nil, "{time}", creds.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// tell writes down what becomes of the source. That there are no credentials at
// all is told to those who want them.
func (i *Identity) logChange(before, after cached) {
	switch log := i.log(); {
	case after.last.err == nil && before.last.err != nil:
		log.Info("AWS credentials renewed again", i.fields(after)...)
	case after.last.err != nil && after.valid(wallClock()):
		log.Warn("AWS credentials not renewed; those at hand are used as long as they are valid",
			append(i.fields(after), zap.Error(after.last.err))...)
	case after.last.err == nil:
		log.Debug("AWS credentials fetched", i.fields(after)...)
	}
}

func (i *Identity) fields(h cached) []zap.Field {
	fields := []zap.Field{zap.String("source", i.sourceOf(h.creds).String())}
	if h.creds.CanExpire {
		fields = append(fields, zap.Time("valid_until", h.creds.Expires))
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

// wallClock is the time in which credentials and tokens expire; the monotonic one
// stands still while a laptop sleeps.
func wallClock() time.Time { return time.Now().Round(0) }
