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
		if n := logs.FilterMessageSnippet("not renewed").Len(); n < 2 || n > 20 {
			t.Errorf("%d warnings", n)
		}
		s.broken.Store(false)
		for range 60 {
			mustToken(t, tokens, "u")
			time.Sleep(time.Second)
		}
		if logs.FilterMessageSnippet("renewed again").Len() != 1 {
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
		if n := s.fetched.Load(); n > 15 {
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
		tokens.Identity.held.last.at = time.Now().Add(2 * time.Hour) // by the clock of then
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
		if waited := time.Since(begun); waited != patience {
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
		if waited := time.Since(begun); waited != patience {
			t.Errorf("waited %v", waited)
		}
		time.Sleep(time.Minute)
	})
}

func TestRefusedTokenIsNotUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{}
		tokens := newTokens(s)
		first := mustToken(t, tokens, "u")
		time.Sleep(2 * time.Minute)
		if !tokens.Refuse("u", first) {
			t.Error("there will be no other")
		}
		second := mustToken(t, tokens, "u")
		if second == first {
			t.Error("the refused token is used again")
		}
		if n := s.fetched.Load(); n != 2 {
			t.Errorf("credentials fetched %d times, want anew after the refusal", n)
		}
		tokens.Refuse("u", first) // of a slower session
		if mustToken(t, tokens, "u") != second {
			t.Error("a late refusal took the new token")
		}
		for range 10 { // a user without a policy, or throttling: another token would not do better
			time.Sleep(time.Second)
			if tokens.Refuse("u", second) || mustToken(t, tokens, "u") != second {
				t.Fatal("another token within a minute")
			}
		}
		time.Sleep(time.Minute)
		tokens.Refuse("u", second)
		if mustToken(t, tokens, "u") == second {
			t.Error("the refused token is used again after a minute")
		}
		if n := s.fetched.Load(); n != 3 {
			t.Errorf("credentials fetched %d times by refusals, want once a minute", n)
		}
	})
}

// A renewal that began before a refusal neither brings the refused token back
// nor hands out for long one signed with what was refused.
func TestRefusalDuringRenewal(t *testing.T) {
	for _, broken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := &fake{life: 20 * time.Minute}
			tokens := newTokens(s)
			first := mustToken(t, tokens, "u")
			time.Sleep(11 * time.Minute)
			s.delay = time.Second
			s.broken.Store(broken)
			go func() { _, _ = tokens.Token(t.Context(), "u") }()
			time.Sleep(time.Second / 2) // the renewal waits for credentials
			tokens.Refuse("u", first)
			time.Sleep(time.Second / 4)
			s.broken.Store(false)
			time.Sleep(time.Minute)
			next := mustToken(t, tokens, "u")
			if next == first {
				t.Error("the refused token is back")
			}
			if got, want := claims(t, next).AccessKeyID, keyID(s.fetched.Load()); got != want {
				t.Errorf("token of key %s, want the newest, %s", got, want)
			}
		})
	}
}

// When credentials end while their source rests, it does not rest any longer than
// it does with nothing left.
func TestNoLongRestInNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{life: 20 * time.Minute}
		tokens := newTokens(s)
		mustToken(t, tokens, "u")
		s.broken.Store(true)
		for time.Since(tokens.lookUp("u").signedAt) < 16*time.Minute && tokens.Identity.held.valid(time.Now()) {
			_, _ = tokens.Token(t.Context(), "u")
			time.Sleep(time.Second)
		}
		s.broken.Store(false)
		begun := time.Now()
		mustToken(t, tokens, "u")
		if waited := time.Since(begun); waited > maxPauseInNeed {
			t.Errorf("waited %v", waited)
		}
	})
}

// A refused user's tokens are kept as others' are while the source is down.
func TestRefusedWhileTheSourceIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{life: time.Hour}
		tokens := newTokens(s)
		first := mustToken(t, tokens, "u")
		s.broken.Store(true)
		time.Sleep(2 * time.Second)
		tokens.Refuse("u", first)
		second := mustToken(t, tokens, "u")
		for range 30 {
			if tokens.Refuse("u", second) || mustToken(t, tokens, "u") != second {
				t.Fatal("another token by the same credentials")
			}
			time.Sleep(time.Second)
		}
	})
}

// A token is not confirmed that was refused meanwhile.
func TestConfirmAfterRefusal(t *testing.T) {
	tokens := newTokens(&fake{})
	mustToken(t, tokens, "u")
	old := tokens.lookUp("u")
	tokens.Refuse("u", old.value)
	tokens.confirm("u", old)
	if tokens.lookUp("u").value != "" {
		t.Error("the refused token is back")
	}
}

// Credentials that are fetched anew and are the same leave the tokens as they are.
func TestSameCredentialsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(sourceFunc(func() (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: "secret"}, nil
		}))
		good, bad := mustToken(t, tokens, "good"), mustToken(t, tokens, "bad")
		time.Sleep(2 * time.Second)
		tokens.Refuse("bad", bad)
		if mustToken(t, tokens, "bad") == bad {
			t.Error("the refused token is used again")
		}
		for range 10 {
			if mustToken(t, tokens, "good") != good {
				t.Fatal("another token for no reason")
			}
			time.Sleep(time.Second)
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

// A token that is signed again within the second is the one that was refused:
// nobody gets it later.
func TestSameTokenIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(sourceFunc(func() (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: "secret"}, nil
		}))
		first := mustToken(t, tokens, "u")
		tokens.Refuse("u", first)
		if mustToken(t, tokens, "u") != first {
			t.Fatal("signed twice within a second, and not the same")
		}
		time.Sleep(time.Second)
		if mustToken(t, tokens, "u") == first {
			t.Error("the refused token was kept")
		}
	})
}

// One user's refusals cost the others neither their tokens nor time.
func TestRefusalsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{life: time.Hour}
		tokens := newTokens(s)
		bad := mustToken(t, tokens, "bad")
		good := mustToken(t, tokens, "good")
		time.Sleep(time.Minute)
		tokens.Refuse("bad", bad)
		s.broken.Store(true)
		s.delay = 15 * time.Second
		for range 60 {
			begun := time.Now()
			if mustToken(t, tokens, "good") != good || time.Since(begun) != 0 {
				t.Fatalf("another token, or after %v", time.Since(begun))
			}
			time.Sleep(time.Second)
		}
		s.broken.Store(false)
		for range 60 {
			mustToken(t, tokens, "good")
			time.Sleep(time.Second)
		}
		if key := claims(t, mustToken(t, tokens, "good")).AccessKeyID; key == keyID(1) {
			t.Error("not signed anew when there are new credentials")
		}
	})
}
