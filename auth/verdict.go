package auth

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"
)

const (
	// forever is the maximum age of a verdict that is not requested again.
	forever time.Duration = math.MaxInt64
	// unknownRetry is the time for which a request without a verdict, such as one
	// that a network blocks, is not repeated.
	unknownRetry = time.Minute
	// acceptedInterval and rejectedInterval are the intervals at which Watch
	// requests the verdict again: a session token may expire without its expiry
	// being known, and a new access key takes some time to work.
	acceptedInterval, rejectedInterval = 5 * time.Minute, time.Minute
	// filesInterval is the interval at which Watch checks the configuration files
	// while the credentials are rejected.
	filesInterval = 2 * time.Second
)

// verdict is the answer of STS about credentials. The zero value is none.
type verdict struct {
	creds    aws.Credentials
	caller   Caller
	err      error     // of the request; nil if STS accepts the credentials
	rejected *Error    // set if STS rejects the credentials
	since    time.Time // of the first rejection
	at       time.Time
}

func (v verdict) isKnown() bool { return v.err == nil || v.rejected != nil }

// isFresh reports whether v need not be requested again.
func (v verdict) isFresh(maxAge time.Duration) bool {
	switch {
	case !v.isKnown():
		maxAge = unknownRetry
	case v.rejected != nil:
		maxAge = min(maxAge, rejectedInterval)
	}
	return wallClock().Sub(v.at).Abs() < maxAge
}

// verdicts holds the last verdict. The zero value is ready for use.
type verdicts struct {
	requesting sync.Mutex // held during the request, whose response other callers share

	mu      sync.Mutex
	last    verdict
	renewed chan struct{} // wakes Watch; nil before Watch
}

// about returns the last verdict about credentials. There may be none.
func (v *verdicts) about(creds aws.Credentials) (verdict, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last, !v.last.at.IsZero() && sameCredentials(v.last.creds, creds)
}

// notify wakes Watch after credentials have been fetched.
func (v *verdicts) notify() {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case v.renewed <- struct{}{}:
	default: // Watch does not run, or is about to
	}
}

func (v *verdicts) whenRenewed() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.renewed == nil {
		v.renewed = make(chan struct{}, 1)
	}
	return v.renewed
}

// requestVerdict returns a verdict about the credentials that is not older than
// maxAge, if STS answers. Concurrent callers share a request.
func (i *Identity) requestVerdict(ctx context.Context, creds aws.Credentials, maxAge time.Duration) verdict {
	i.verdicts.requesting.Lock()
	defer i.verdicts.requesting.Unlock()
	old, known := i.verdicts.about(creds)
	if known && old.isFresh(maxAge) {
		return old
	}
	timed, cancel := context.WithTimeout(ctx, callerTimeout)
	defer cancel()
	next := verdict{creds: creds}
	next.caller, next.err = i.requestCaller(timed, creds)
	next.rejected = i.rejection(creds, next.err)
	if ctx.Err() != nil && !next.isKnown() {
		return next // the caller gave up; STS may answer the next one
	}
	if known && old.isKnown() && !next.isKnown() {
		next = old // STS cannot be reached; its last answer remains valid
	}
	next.at = wallClock()
	if next.rejected != nil {
		next.since = next.at
		if known && old.rejected != nil {
			next.since = old.since
		}
	}
	i.verdicts.mu.Lock()
	i.verdicts.last = next
	i.verdicts.mu.Unlock()
	i.logVerdict(old, next)
	return next
}

// rejection returns the error of credentials that STS rejects with err, or nil. While
// the clock is off, STS rejects valid credentials as well.
func (i *Identity) rejection(creds aws.Credentials, err error) *Error {
	code := errorCode(err)
	if err == nil || i.ClockIsOff() || !slices.Contains(Refusals, code) {
		return nil
	}
	source := i.sourceOf(creds)
	remedy := source.remedy()
	if strings.HasPrefix(creds.AccessKeyID, "ASIA") && creds.SessionToken == "" {
		remedy = "Keys that begin with ASIA are temporary and need the session token (AWS_SESSION_TOKEN). " + remedy
	}
	rejected := newError(ReasonCredentialsRejected, err, "{source}", source.String(), "{code}", code, "{remedy}", remedy)
	rejected.Source = source
	return rejected
}

// logVerdict logs a verdict that differs from the one before.
func (i *Identity) logVerdict(old, next verdict) {
	isNew := !sameCredentials(old.creds, next.creds)
	switch log := i.log().With(zap.String("credentials", i.sourceOf(next.creds).String())); {
	case next.rejected != nil && (isNew || old.rejected == nil):
		log.Warn("AWS rejects these credentials ("+errorCode(next.err)+"). Every login will fail until they are replaced.",
			zap.String("reason", next.rejected.Reason()), zap.String("hint", next.rejected.Hint))
	case next.err == nil && old.rejected != nil:
		log.Info("AWS accepts the credentials again", zap.String("as", next.caller.ARN))
	case isNew: // many networks block STS; only a cause in the settings is logged
		if cause := i.Unreachable(next.err); cause != nil {
			log.Warn("could not request the identity from STS", zap.Error(cause), zap.String("hint", cause.Hint))
		}
	}
}

// Watch requests the verdict of STS about the credentials when they are renewed,
// and repeatedly, until ctx is done. It does not renew them for that. It calls changed
// when their owner differs from caller, and then from the last one.
func (i *Identity) Watch(ctx context.Context, caller Caller, changed func(Caller)) {
	renewed := i.verdicts.whenRenewed()
	for {
		interval := acceptedInterval
		if i.Status().Rejected != nil {
			interval = filesInterval
		}
		select {
		case <-renewed:
		case <-time.After(interval):
		case <-ctx.Done():
			return
		}
		before, _ := i.state()
		if before.generation != i.currentGeneration() && i.Status().Rejected != nil {
			_, _, _ = i.snapshot(ctx) // the files have changed; the next login has the error
		}
		if cached, _ := i.state(); cached.valid(wallClock()) {
			if next := i.requestVerdict(ctx, cached.creds, acceptedInterval/2); next.err == nil && next.caller != caller {
				caller = next.caller
				changed(caller)
			}
		}
	}
}
