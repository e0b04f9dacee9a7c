package auth

import (
	"context"
	"time"
)

// IdentityStatus is what is known of who signs without asking anybody.
type IdentityStatus struct {
	Source  string    // of the credentials, in words; empty if there are none so far
	Caller  Caller    // empty if AWS has not said
	Expires time.Time // of the credentials; zero if they do not, or are not there
	Err     error     // of the last attempt to fetch them, if it failed
}

// Status is what is known of who signs. It asks nobody.
func (i *Identity) Status() IdentityStatus {
	i.mu.Lock()
	defer i.mu.Unlock()
	status := IdentityStatus{Err: i.cached.last.err}
	if creds := i.cached.creds; creds.HasKeys() {
		status.Source = i.sourceOf(creds).String()
		if creds.CanExpire {
			status.Expires = creds.Expires
		}
		if i.lastCaller.keyID == creds.AccessKeyID {
			status.Caller = i.lastCaller.caller
		}
	}
	return status
}

// Ready reports why nothing can be signed now, as an *Error, or nil. It may have to
// ask the source of the credentials, until ctx is done.
func (i *Identity) Ready(ctx context.Context) error {
	_, _, err := i.snapshot(ctx)
	return err
}

// TokenCounts are how many tokens were signed so far.
type TokenCounts struct {
	Signed int64
	Failed int64 // attempts that came to nothing: there were no credentials, mostly
}

// Counts are how many tokens were signed so far.
func (t *Tokens) Counts() TokenCounts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts
}

// Expiries are when the tokens at hand end that have not yet, by user.
func (t *Tokens) Expiries() map[string]time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	expiries := make(map[string]time.Time, len(t.cache))
	for user, token := range t.cache {
		if token.value != "" && wallClock().Before(token.expiry) { // nor was it refused
			expiries[user] = token.expiry
		}
	}
	return expiries
}

// count adds to what was signed so far.
func (t *Tokens) count(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.counts.Failed++
		return
	}
	t.counts.Signed++
}
