// Package auth creates the authentication tokens with which users log in to RDS,
// Aurora and Aurora DSQL. It implements what is AWS's: host names, credentials
// and signing. It does not implement PostgreSQL's protocol.
package auth

import (
	"context"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/sync/singleflight"
)

const (
	// lifetime is how long RDS accepts a token. It cannot be extended.
	// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.html
	lifetime = 15 * time.Minute
	// expiryMargin is the last part of a token's life, in which the token is used
	// only if no new one can be signed.
	expiryMargin = time.Minute
	// refreshWait limits how long a login waits for a new token or new credentials
	// while the old ones are still valid.
	refreshWait = 2 * time.Second
	// retryInterval is the interval at which a login without a token tries again
	// while the source of the credentials fails. Requests to the source itself are
	// spaced by minRetryDelay.
	retryInterval = 250 * time.Millisecond
	// maxUsers limits the cached tokens, since clients may send any user name.
	maxUsers = 1000
)

// Tokens signs the tokens for one database and caches one for each user. A token
// is valid for 15 minutes, but no longer than the credentials that signed it, and
// is replaced after two thirds of that time.
//
// All methods are safe for concurrent use. The fields must be set before the
// first call and not be changed after it.
type Tokens struct {
	// Endpoint is the host:port that tokens are signed for.
	Endpoint string
	// Region is the AWS region of the database.
	Region string
	// Kind selects the form of the token: Aurora DSQL's or, for all other kinds,
	// RDS's.
	Kind Kind
	// Identity provides the credentials. Several Tokens may share one.
	Identity *Identity

	signing singleflight.Group // by user

	mu     sync.Mutex // not held during requests to AWS
	cache  map[string]token
	counts TokenCounts
}

// token is a cached token. After Invalidate only the fields refused and
// refusedAt are set, and the token is neither fresh nor valid.
type token struct {
	value                       string
	signedAt, refreshAt, expiry time.Time
	generation                  generation // of the credentials that signed it
	signedBy                    aws.Credentials
	refused                     string    // value that must not be cached again
	refusedAt                   time.Time // zero if no token has been refused
}

// fresh reports whether the token can be used as it is. If the clock has been set
// back, it cannot: RDS refuses tokens from the future.
func (t token) fresh(now time.Time, current generation) bool {
	return t.generation == current && !now.Before(t.signedAt) && now.Before(t.refreshAt)
}

// stale reports whether the token can be used while a new one is signed in the
// background.
func (t token) stale(now time.Time, current generation) bool {
	left := max(transitTime, min(expiryMargin, t.expiry.Sub(t.signedAt)/6))
	return t.generation.files == current.files && !now.Before(t.signedAt) && now.Before(t.expiry.Add(-left))
}

// valid reports whether the token will be valid when it reaches the server.
func (t token) valid(now time.Time) bool {
	return now.Before(t.expiry.Add(-transitTime))
}

// Token returns a token for user. Concurrent calls share one signature. A stale
// token is returned at once and replaced in the background.
//
// If new credentials are not available, or not in time, Token returns the old
// token as long as it is valid. Without one, it tries again until ctx is done if
// the failure is temporary. The error is an *Error. It wraps the cause of ctx if
// the time ran out.
func (t *Tokens) Token(ctx context.Context, user string) (string, error) {
	value, err := t.tryToken(ctx, user)
	for isTemporary(err) {
		select {
		case <-time.After(retryInterval):
		case <-ctx.Done():
			return "", err
		}
		failed := err
		if value, err = t.tryToken(ctx, user); err != nil && ctx.Err() != nil {
			return "", failed // more specific than the timeout
		}
	}
	return value, err
}

func (t *Tokens) tryToken(ctx context.Context, user string) (string, error) {
	old, now, current := t.lookUp(user), wallClock(), t.Identity.currentGeneration()
	if old.fresh(now, current) {
		return old.value, nil
	}
	signed := t.signing.DoChan(user, func() (any, error) { return t.refresh(user) })
	if old.stale(now, current) {
		return old.value, nil
	}

	waitOver, stop := refreshTimer(old.valid(now))
	defer stop()
	for {
		select {
		case result := <-signed:
			if result.Err == nil {
				return result.Val.(token).value, nil
			}
			if old.valid(wallClock()) {
				return old.value, nil
			}
			return "", result.Err
		case <-waitOver:
			if old.valid(wallClock()) {
				return old.value, nil
			}
		case <-ctx.Done():
			return "", t.Identity.timeoutError(ctx)
		}
	}
}

// Invalidate drops a token of user that the server refused, has the credentials
// that signed it fetched again, and reports whether Token will return another
// one. If the token before it was refused less than a minute ago, the token stays
// in use, since a new one would be refused as well.
func (t *Tokens) Invalidate(user, value string) (another bool) {
	now := wallClock()
	switch old := t.lookUp(user); {
	case old.value != value:
		return true // another session invalidated it
	case now.Sub(old.refusedAt).Abs() < invalidateInterval:
		return false
	}
	t.Identity.Invalidate() // first, so that these credentials do not sign the next token
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cache[user].value == value {
		t.cache[user] = token{refused: value, refusedAt: now}
		t.signing.Forget(user)
	}
	return true
}

func (t *Tokens) lookUp(user string) token {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cache[user]
}

// refresh signs and caches a token for user. It runs once at a time for each user
// and does not end with the client that started it. It uses one snapshot of the
// credentials, so that the token does not outlive them.
func (t *Tokens) refresh(user string) (token, error) {
	creds, generation, err := t.Identity.snapshot(context.Background()) // limited by fetchTimeout
	if err != nil {
		t.count(err)
		return token{}, err
	}
	old := t.lookUp(user)
	if sameCredentials(old.signedBy, creds) {
		old.generation = generation // the new credentials are the old ones
	}
	if old.fresh(wallClock(), generation) {
		t.confirm(user, old)
		return old, nil
	}
	refreshed, err := t.sign(user, creds)
	t.count(err)
	if err != nil {
		return token{}, newError(ReasonSigningFailed, err, "{cause}", err.Error())
	}
	refreshed.generation, refreshed.signedBy = generation, creds
	t.keep(user, refreshed)
	return refreshed, nil
}

// sameCredentials reports whether two credentials have the same keys and expiry.
func sameCredentials(a, b aws.Credentials) bool {
	return a.AccessKeyID == b.AccessKeyID && a.SecretAccessKey == b.SecretAccessKey && a.SessionToken == b.SessionToken && a.Expires.Equal(b.Expires)
}

func (t *Tokens) sign(user string, creds aws.Credentials) (token, error) {
	sign := signRDS
	if t.Kind == DSQL {
		sign = signDSQL
	}
	now := wallClock()
	value, err := sign(context.Background(), t.Endpoint, t.Region, user, creds)
	life := lifetime
	if creds.CanExpire {
		life = min(life, creds.Expires.Sub(now))
	}
	return token{
		value:     value,
		signedAt:  now,
		refreshAt: now.Add(life * 2 / 3),
		expiry:    now.Add(life),
	}, err
}

// confirm caches a token for the new generation of the same credentials, unless
// the token has been invalidated meanwhile.
func (t *Tokens) confirm(user string, confirmed token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cache[user].value == confirmed.value {
		t.cache[user] = confirmed
	}
}

// keep caches a token. It does not if the token is the refused one, since signing
// twice within a second yields the same token. After a refusal, it does not if
// newer credentials may be available.
func (t *Tokens) keep(user string, refreshed token) {
	invalidated := t.Identity.hasNewer(refreshed.generation)
	t.mu.Lock()
	defer t.mu.Unlock()
	old, known := t.cache[user]
	if old.refused != "" && (refreshed.value == old.refused || invalidated) {
		return
	}
	if t.cache == nil {
		t.cache = make(map[string]token)
	}
	if !known && len(t.cache) >= maxUsers {
		for other := range t.cache { // evict any: it only has to be signed again
			delete(t.cache, other)
			break
		}
	}
	refreshed.refusedAt = old.refusedAt
	t.cache[user] = refreshed
}
