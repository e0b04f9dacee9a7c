// Package auth makes the tokens with which RDS and Aurora users log in. It
// knows AWS (names, credentials, signing) and nothing of PostgreSQL's wire
// protocol.
package auth

import (
	"context"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/sync/singleflight"
)

const (
	// lifetime is how long RDS takes a token; it cannot be made longer.
	// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.html
	lifetime = 15 * time.Minute
	// margin is how long before its end a token is only used if there is no other.
	expiryMargin = time.Minute
	// patience is how long a login waits for a new token, or credentials, while
	// the old ones still hold: longer only delays what would work anyway.
	refreshWait = 2 * time.Second
	// askAgain is how often a login that has no token asks for one while the
	// source of the credentials is at fault. The source itself is asked less.
	retryInterval = 250 * time.Millisecond
	// maxUsers bounds the tokens kept: a client may claim any user name.
	maxUsers = 1000
)

// Tokens signs the tokens for one database and keeps them, one for each user,
// until two thirds of their life are over. A token lives 15 minutes, but no
// longer than the credentials that signed it. All methods may be called
// concurrently. The fields must be set, and not change after the first call.
type Tokens struct {
	// Endpoint is the database's host:port, for which tokens are signed.
	Endpoint string
	// Region is the AWS region of the database.
	Region string
	// Kind is that of the endpoint's name. Aurora DSQL has tokens of its own;
	// for everything else they are those of RDS.
	Kind Kind
	// Identity signs. Several databases may share one.
	Identity *Identity

	signing singleflight.Group // by user

	mu     sync.Mutex // never held while AWS is asked
	cache  map[string]token
	counts TokenCounts
}

// token is a user's, or what is left of one that was refused: then it is
// neither fresh nor valid.
type token struct {
	value                     string
	signedAt, renewAt, expiry time.Time
	generation                generation // of the credentials
	signedBy                  aws.Credentials
	rejected                  string    // never to be kept again
	rejectedAt                time.Time // zero: nothing was refused before this one
}

// fresh tokens are used without a thought. A clock that was put back makes a
// token stale, since RDS does not take one from the future.
func (t token) fresh(now time.Time, current generation) bool {
	return t.generation == current && !now.Before(t.signedAt) && now.Before(t.renewAt)
}

// ripe tokens are as good as fresh ones, but due for renewal.
func (t token) stale(now time.Time, current generation) bool {
	left := max(transitTime, min(expiryMargin, t.expiry.Sub(t.signedAt)/6))
	return t.generation.files == current.files && !now.Before(t.signedAt) && now.Before(t.expiry.Add(-left))
}

// valid tokens live until they have reached the server.
func (t token) valid(now time.Time) bool {
	return now.Before(t.expiry.Add(-transitTime))
}

// Token returns the token with which user logs in. Of several concurrent calls
// one signs, behind the backs of the others as long as the old token is good.
// When credentials cannot be had, or not at once, the old one is used for as
// long as it is valid; without one, a source that is at fault is asked again
// until ctx is done. The error is an *Error, around that of ctx if it was only
// the time that ran out.
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
			return "", failed // says more than that the time is up
		}
	}
	return value, err
}

func (t *Tokens) tryToken(ctx context.Context, user string) (string, error) {
	old, now, current := t.lookUp(user), wallClock(), t.Identity.currentGeneration()
	if old.fresh(now, current) {
		return old.value, nil
	}
	signed := t.signing.DoChan(user, func() (any, error) { return t.renew(user) })
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
			if old.valid(wallClock()) { // still
				return old.value, nil
			}
		case <-ctx.Done():
			return "", timeoutError(ctx)
		}
	}
}

// Invalidate reports that the server did not accept this token of user's, and reports
// whether there is or will be another: it is not used again, and the credentials
// that signed it are fetched anew. If the one before was refused as well, less
// than a minute ago, it is kept, since another one would fare no better.
func (t *Tokens) Invalidate(user, value string) (another bool) {
	now := wallClock()
	switch old := t.lookUp(user); {
	case old.value != value:
		return true // another session was faster
	case now.Sub(old.rejectedAt).Abs() < invalidateInterval:
		return false
	}
	t.Identity.invalidate() // before the token goes: who signs the next one must not find these
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cache[user].value == value {
		t.cache[user] = token{rejected: value, rejectedAt: now}
		t.signing.Forget(user)
	}
	return true
}

func (t *Tokens) lookUp(user string) token {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cache[user]
}

// renew runs once at a time for a user, and not on behalf of one client: the
// clients that wait for it may leave. It signs with one snapshot of the
// credentials, so that the token's life is known to be within theirs.
func (t *Tokens) renew(user string) (token, error) {
	creds, generation, err := t.Identity.snapshot(context.Background()) // which has limits of its own
	if err != nil {
		t.count(err)
		return token{}, err
	}
	old := t.lookUp(user)
	if sameCredentials(old.signedBy, creds) {
		old.generation = generation // they were fetched anew, but are the same
	}
	if old.fresh(wallClock(), generation) {
		t.confirm(user, old)
		return old, nil
	}
	renewed, err := t.sign(user, creds)
	t.count(err)
	if err != nil {
		return token{}, newError(ReasonSigningFailed, err, "{cause}", err.Error())
	}
	renewed.generation, renewed.signedBy = generation, creds
	t.keep(user, renewed)
	return renewed, nil
}

// sameKeys reports whether two credentials sign alike, and as long.
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
		value:    value,
		signedAt: now,
		renewAt:  now.Add(life * 2 / 3),
		expiry:   now.Add(life),
	}, err
}

// confirm notes that a token is good for the credentials' new epoch, unless it
// was refused meanwhile.
func (t *Tokens) confirm(user string, confirmed token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cache[user].value == confirmed.value {
		t.cache[user] = confirmed
	}
}

// keep keeps a token, unless it was refused (one that is signed again within a
// second is the same), or is by the credentials of one that was while others can
// be had.
func (t *Tokens) keep(user string, renewed token) {
	invalidated := t.Identity.hasNewer(renewed.generation)
	t.mu.Lock()
	defer t.mu.Unlock()
	old, known := t.cache[user]
	if old.rejected != "" && (renewed.value == old.rejected || invalidated) {
		return
	}
	if t.cache == nil {
		t.cache = make(map[string]token)
	}
	if !known && len(t.cache) >= maxUsers {
		for other := range t.cache { // any one: a lost token costs a signature
			delete(t.cache, other)
			break
		}
	}
	renewed.rejectedAt = old.rejectedAt
	t.cache[user] = renewed
}
