package auth

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestSourceFails verifies that while the source fails, the old token is used until
// it expires and then replaced by one that the old credentials sign.
func TestSourceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{life: 16 * time.Minute}
		tokens := newTokens(s)
		first := mustToken(t, tokens, "u")
		s.broken.Store(true)
		for range 4 { // to the 14th minute
			time.Sleep(3*time.Minute + 29*time.Second)
			mustToken(t, tokens, "u")
		}
		time.Sleep(time.Minute)
		if mustToken(t, tokens, "u") == first {
			t.Error("the old credentials did not sign a new token")
		}
		time.Sleep(2 * time.Minute)
		err := wait(t, tokens, 30*time.Second)
		var failed *Error
		if !errors.As(err, &failed) || failed.Advice() != "repair it" {
			t.Errorf("got error %v after the token has expired", err)
		}
		s.broken.Store(false)
		if err := wait(t, tokens, 30*time.Second); err != nil {
			t.Error(err)
		}
	})
}

// TestSourceFailsForMinutes verifies that valid credentials keep signing, and what is
// logged.
func TestSourceFailsForMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{life: time.Hour}
		core, logs := observer.New(zap.InfoLevel)
		tokens := newTokens(s)
		tokens.Identity.Log = zap.New(core)
		mustToken(t, tokens, "u")
		time.Sleep(40 * time.Minute)
		s.broken.Store(true)
		for range 19 * 60 {
			if key := claims(t, mustToken(t, tokens, "u")).AccessKeyID; key != keyID(1) {
				t.Fatalf("token of key %s", key)
			}
			time.Sleep(time.Second)
		}
		if n := logs.FilterMessageSnippet("could not refresh").Len(); n < 2 || n > 20 {
			t.Errorf("%d warnings", n)
		}
		s.broken.Store(false)
		for range 60 {
			mustToken(t, tokens, "u")
			time.Sleep(time.Second)
		}
		if logs.FilterMessageSnippet("refreshed after failures").Len() != 1 {
			t.Error("the recovery is not logged")
		}
	})
}

// TestLoginWaitsForSource verifies that a login without valid credentials waits for
// a source that has worked before.
func TestLoginWaitsForSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{life: time.Minute}
		tokens := newTokens(s)
		mustToken(t, tokens, "u")
		time.Sleep(2 * time.Minute)
		s.broken.Store(true)
		time.AfterFunc(20*time.Second, func() { s.broken.Store(false) })
		begun := time.Now()
		if err := wait(t, tokens, 30*time.Second); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(begun); waited < 20*time.Second || waited > 23*time.Second {
			t.Errorf("waited %v", waited)
		}
		if n := s.fetched.Load(); n > 23 { // once a second
			t.Errorf("%d requests", n)
		}
	})
}

// TestNoWaitForPermanentFailure verifies that a failure that needs intervention is
// returned at once, that the source gets one request a second, and that the first
// login after the repair succeeds.
func TestNoWaitForPermanentFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{}
		s.broken.Store(true)
		tokens := newTokens(s)
		begun := time.Now()
		if err := wait(t, tokens, 30*time.Second); err == nil || time.Since(begun) != 0 {
			t.Errorf("got %v after %v", err, time.Since(begun))
		}
		for range 10 {
			if err := wait(t, tokens, 30*time.Second); err == nil {
				t.Error("a token")
			}
		}
		if waited := time.Since(begun); waited != 10*time.Second || s.fetched.Load() != 11 {
			t.Errorf("%d requests in %v", s.fetched.Load(), waited)
		}
		s.broken.Store(false)
		mustToken(t, tokens, "u")
		if waited := time.Since(begun); waited != 11*time.Second {
			t.Errorf("waited %v", waited)
		}
	})
}

// TestSourceHangsOnce verifies that a login survives one fetch that times out.
func TestSourceHangsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetched := 0
		tokens := newTokens(sourceContextFunc(func(ctx context.Context) (aws.Credentials, error) {
			if fetched++; fetched == 1 {
				<-ctx.Done()
				return aws.Credentials{}, ctx.Err()
			}
			return aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: "secret"}, nil
		}))
		begun := time.Now()
		if err := wait(t, tokens, 30*time.Second); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(begun); waited > fetchTimeout+2*time.Second {
			t.Errorf("waited %v", waited)
		}
	})
}

type sourceContextFunc func(ctx context.Context) (aws.Credentials, error)

func (f sourceContextFunc) fetch(ctx context.Context) (aws.Credentials, error) { return f(ctx) }

// TestSlowSource verifies that a login with a valid token waits for a new one for
// refreshWait only.
func TestSlowSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{life: 15 * time.Minute}
		tokens := newTokens(s)
		first := mustToken(t, tokens, "u")
		time.Sleep(14*time.Minute + 30*time.Second) // its last minute
		s.delay = 15 * time.Second
		begun := time.Now()
		if mustToken(t, tokens, "u") != first {
			t.Error("not the old token")
		}
		if waited := time.Since(begun); waited != refreshWait {
			t.Errorf("waited %v", waited)
		}
		time.Sleep(20 * time.Second)
		if mustToken(t, tokens, "u") == first {
			t.Error("the refresh was lost")
		}
	})
}

// TestNewUserWithSlowSource verifies that a new user's login waits for new
// credentials for refreshWait only while the old ones are valid.
func TestNewUserWithSlowSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{life: 20 * time.Minute}
		tokens := newTokens(s)
		mustToken(t, tokens, "u")
		time.Sleep(10 * time.Minute)
		s.delay = 15 * time.Second
		begun := time.Now()
		mustToken(t, tokens, "another")
		if waited := time.Since(begun); waited != refreshWait {
			t.Errorf("waited %v", waited)
		}
		time.Sleep(time.Minute)
	})
}

// TestRetryDelayWithoutCredentials verifies that a delay that began with valid
// credentials is cut short when they expire.
func TestRetryDelayWithoutCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{life: 20 * time.Minute}
		tokens := newTokens(s)
		mustToken(t, tokens, "u")
		s.broken.Store(true)
		for time.Since(tokens.lookUp("u").signedAt) < 16*time.Minute && tokens.Identity.cached.valid(time.Now()) {
			_, _ = tokens.Token(t.Context(), "u")
			time.Sleep(time.Second)
		}
		s.broken.Store(false)
		begun := time.Now()
		mustToken(t, tokens, "u")
		if waited := time.Since(begun); waited > minRetryDelay {
			t.Errorf("waited %v", waited)
		}
	})
}

// TestSameShortLivedCredentials verifies that credentials are used until they expire
// if the source has no others, without a request for each login.
func TestSameShortLivedCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		end := time.Now().Add(5 * time.Minute)
		tokens := newTokens(sourceFunc(func() (aws.Credentials, error) {
			requests++
			return aws.Credentials{AccessKeyID: "ASIA", SecretAccessKey: "secret", SessionToken: "session", CanExpire: true, Expires: end}, nil
		}))
		for range 299 {
			mustToken(t, tokens, "u")
			time.Sleep(time.Second)
		}
		if requests > 12 {
			t.Errorf("%d requests", requests)
		}
	})
}
