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

// A source that is down is ridden out with the token at hand, to its end.
func TestOldTokenServesWhileTheSourceIsDown(t *testing.T) {
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
			t.Error("no other token, signed with the credentials that were left")
		}
		time.Sleep(2 * time.Minute)
		err := wait(t, tokens, 30*time.Second)
		var failed *Error
		if !errors.As(err, &failed) || failed.Advice() != "mend it" {
			t.Errorf("got error %v once the token has expired", err)
		}
		s.broken.Store(false)
		if err := wait(t, tokens, 30*time.Second); err != nil {
			t.Error(err)
		}
	})
}

// Credentials with hours left sign all the while.
func TestSourceDownForMinutes(t *testing.T) {
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
			t.Error("nobody is told that it works again")
		}
	})
}

// A login that finds no credentials waits for them, as a person would, if they
// are likely to come.
func TestLoginWaitsForASourceThatIsDown(t *testing.T) {
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
			t.Errorf("asked %d times", n)
		}
	})
}

// What a person has to mend is told at once; who comes within a second hears the
// next answer, so that it works as soon as it is mended and nobody asks all the
// time.
func TestNoWaitForWhatMustBeMended(t *testing.T) {
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
			t.Errorf("asked %d times in %v", s.fetched.Load(), waited)
		}
		s.broken.Store(false)
		mustToken(t, tokens, "u")
		if waited := time.Since(begun); waited != 11*time.Second {
			t.Errorf("waited %v", waited)
		}
	})
}

// A source that is left alone after a failure is asked again when the clock is set.
func TestClockSetAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{}
		s.broken.Store(true)
		tokens := newTokens(s)
		_ = wait(t, tokens, time.Second)
		tokens.Identity.cached.last.at = time.Now().Add(2 * time.Hour) // by the clock of then
		s.broken.Store(false)
		mustToken(t, tokens, "u")
	})
}

// A source that does not answer is given up, and asked once more while there is
// time.
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

func TestOldTokenServesWhileTheSourceIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{life: 15 * time.Minute}
		tokens := newTokens(s)
		first := mustToken(t, tokens, "u")
		time.Sleep(14*time.Minute + 30*time.Second) // its last minute
		s.delay = 15 * time.Second
		begun := time.Now()
		if mustToken(t, tokens, "u") != first {
			t.Error("the token is not the old one")
		}
		if waited := time.Since(begun); waited != refreshWait {
			t.Errorf("waited %v", waited)
		}
		time.Sleep(20 * time.Second)
		if mustToken(t, tokens, "u") == first {
			t.Error("the renewal was lost")
		}
	})
}

// Credentials that would do are not waited for by a user who has no token yet.
func TestNewUserWhileTheSourceIsSlow(t *testing.T) {
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

// When credentials end while their source rests, it does not rest any longer than
// it does with nothing left.
func TestNoLongRestInNeed(t *testing.T) {
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

// Credentials with little time left serve if their source gives no others.
func TestOldCredentialsServeToTheirEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		end := time.Now().Add(5 * time.Minute)
		tokens := newTokens(sourceFunc(func() (aws.Credentials, error) {
			asked++
			return aws.Credentials{AccessKeyID: "ASIA", SecretAccessKey: "secret", SessionToken: "session", CanExpire: true, Expires: end}, nil
		}))
		for range 299 {
			mustToken(t, tokens, "u")
			time.Sleep(time.Second)
		}
		if asked > 12 {
			t.Errorf("asked %d times", asked)
		}
	})
}
