package auth

import (
	"testing"
	"testing/synctest"
	"time"
)

// stepClock puts tokens into the state in which a step of this machine's clock by d
// leaves them. The clock of a test cannot be set, so all stored times move instead.
// AWS's clock is not stepped: what the source issues expires earlier or later by d.
func stepClock(tokens *Tokens, s *fake, d time.Duration) {
	synctest.Wait()
	for user, token := range tokens.cache {
		for _, at := range []*time.Time{&token.signedAt, &token.refreshAt, &token.expiry, &token.refusedAt, &token.signedBy.Expires} {
			moveBack(at, d)
		}
		tokens.cache[user] = token
	}
	i := tokens.Identity
	for _, at := range []*time.Time{&i.cached.creds.Expires, &i.cached.refreshAt, &i.cached.last.at, &i.filesCheckedAt, &i.invalidated} {
		moveBack(at, d)
	}
	s.life -= d
}

func moveBack(at *time.Time, d time.Duration) {
	if !at.IsZero() {
		*at = at.Add(-d)
	}
}

// expectFreshToken fails unless a login gets a token at once that was signed in the
// past and is not due to be refreshed, by the clock as it is now.
func expectFreshToken(t *testing.T, tokens *Tokens) (value string) {
	t.Helper()
	began := time.Now()
	value = mustToken(t, tokens, "u")
	if waited := time.Since(began); waited != 0 {
		t.Errorf("waited %v for a token", waited)
	}
	if got := tokens.lookUp("u"); got.value != value || !got.fresh(wallClock(), tokens.Identity.currentGeneration()) {
		t.Errorf("got a token signed at %v that expires at %v; it is %v", got.signedAt, got.expiry, wallClock())
	}
	return value
}

// TestClockSteps verifies that the next login gets a good token after the clock is set,
// in either direction, even if the database refused the tokens before.
func TestClockSteps(t *testing.T) {
	for _, step := range []time.Duration{-2 * time.Hour, -20 * time.Minute, -2 * time.Minute, 2 * time.Minute, 20 * time.Minute} {
		t.Run(step.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &fake{life: time.Hour}
				tokens := newTokens(s)
				first := expectFreshToken(t, tokens)
				time.Sleep(5 * time.Second)

				stepClock(tokens, s, step)
				wrong := expectFreshToken(t, tokens)
				if kept := wrong == first; kept != (step == 2*time.Minute) {
					t.Errorf("token is kept: %v", kept)
				}
				tokens.Invalidate("u", wrong)
				time.Sleep(5 * time.Second)
				refused := expectFreshToken(t, tokens)
				time.Sleep(5 * time.Second)

				stepClock(tokens, s, -step)
				right := expectFreshToken(t, tokens)
				if kept := right == refused; kept != (step == -2*time.Minute) {
					t.Errorf("token of the wrong clock is kept: %v", kept)
				}
				if tokens.Identity.filesCheckedAt.After(wallClock()) {
					t.Error("changes of the files are not seen until the clock is where it was")
				}
				fetched := s.fetched.Load()
				if !tokens.Invalidate("u", right) || mustToken(t, tokens, "u") == right || s.fetched.Load() == fetched {
					t.Error("a refusal by the wrong clock delays the next token")
				}
			})
		})
	}
}

// TestClockFarAhead verifies that logins fail while all credentials seem to have
// expired, and work once the clock is set.
func TestClockFarAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{life: time.Hour}
		tokens := newTokens(s)
		mustToken(t, tokens, "u")
		stepClock(tokens, s, 2*time.Hour)
		if err := wait(t, tokens, 30*time.Second); reasonOf(err) != ReasonCredentialsExpired {
			t.Errorf("got error %v", err)
		}
		stepClock(tokens, s, -2*time.Hour)
		expectFreshToken(t, tokens)
	})
}

// TestClockSetAfterFailure verifies that a change of the clock ends the delay after a
// failure.
func TestClockSetAfterFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{life: time.Hour}
		s.broken.Store(true)
		tokens := newTokens(s)
		_ = wait(t, tokens, time.Second)
		stepClock(tokens, s, -2*time.Hour)
		s.broken.Store(false)
		expectFreshToken(t, tokens)
	})
}
