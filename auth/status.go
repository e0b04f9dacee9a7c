package auth

import (
	"context"
	"time"
)

// IdentityStatus is the state of an Identity.
type IdentityStatus struct {
	Source  string    // description of the credentials' source; empty before the first fetch
	Expires time.Time // of the credentials; zero if they do not expire, or before the first fetch
	Err     error     // of the last fetch; nil if it succeeded

	Caller    Caller // owner of the credentials; empty if unknown
	CallerErr error  // of the request for Caller; nil if it succeeded, or before it
	// Rejected is the *Error of credentials that AWS rejects, as the answer to the
	// request for Caller. It is nil if AWS accepts them, or if that is unknown.
	Rejected error
	// RejectedAt is when AWS rejected them first. A login after it shows that a database
	// accepts them nevertheless.
	RejectedAt time.Time
}

// Status returns the current state. It sends no request.
func (i *Identity) Status() IdentityStatus {
	i.mu.Lock()
	defer i.mu.Unlock()
	status := IdentityStatus{Err: i.cached.last.err}
	if creds := i.cached.creds; creds.HasKeys() {
		status.Source = i.sourceOf(creds).String()
		if creds.CanExpire {
			status.Expires = creds.Expires
		}
		if verdict, ok := i.verdicts.about(creds); ok {
			status.Caller, status.CallerErr = verdict.caller, verdict.err
			if verdict.rejected != nil {
				status.Rejected, status.RejectedAt = verdict.rejected, verdict.since
			}
		}
	}
	return status
}

// Ready returns an *Error if there are no valid credentials. It fetches them if
// necessary.
func (i *Identity) Ready(ctx context.Context) error {
	_, _, err := i.snapshot(ctx)
	return err
}

// TokenCounts holds the numbers of tokens signed since the start.
type TokenCounts struct {
	Signed int64
	Failed int64 // mostly for lack of credentials
}

// Counts returns the numbers of tokens signed since the start.
func (t *Tokens) Counts() TokenCounts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts
}

// Expiries returns when the cached tokens expire, by user. It omits those that
// have expired.
func (t *Tokens) Expiries() map[string]time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	expiries := make(map[string]time.Time, len(t.cache))
	for user, token := range t.cache {
		if token.value != "" && wallClock().Before(token.expiry) { // not invalidated
			expiries[user] = token.expiry
		}
	}
	return expiries
}

// count counts an attempt to sign.
func (t *Tokens) count(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.counts.Failed++
		return
	}
	t.counts.Signed++
}
