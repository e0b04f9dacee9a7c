package auth

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestOldTokenServesWhileTheSourceIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{life: 15 * time.Minute}
		tokens := newTokens(s)
		first := mustToken(t, tokens, "u")
		s.Invalidate()
		s.broken.Store(true)
		for range 4 { // to the 14th minute
			time.Sleep(3*time.Minute + 30*time.Second)
			if mustToken(t, tokens, "u") != first {
				t.Fatal("the token is not the old one")
			}
		}
		time.Sleep(time.Minute)
		_, err := tokens.Token(t.Context(), "u")
		var failed *Error
		if !errors.As(err, &failed) || failed.Advice() != "mend it" {
			t.Errorf("got error %v once the token has expired", err)
		}
		s.broken.Store(false)
		if mustToken(t, tokens, "u") == first {
			t.Error("the expired token is used")
		}
	})
}

func TestOldTokenServesWhileTheSourceIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		tokens := newTokens(s)
		first := mustToken(t, tokens, "u")
		time.Sleep(11 * time.Minute)
		s.Invalidate()
		s.delay = 15 * time.Second
		begun := time.Now()
		if mustToken(t, tokens, "u") != first {
			t.Error("the token is not the old one")
		}
		if waited := time.Since(begun); waited > patience {
			t.Errorf("waited %v", waited)
		}
		time.Sleep(time.Minute)
		if mustToken(t, tokens, "u") == first {
			t.Error("the renewal was lost")
		}
	})
}

func TestRefusedTokenIsNotUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		tokens := newTokens(s)
		first := mustToken(t, tokens, "u")
		time.Sleep(time.Second) // a token of the same second is the same
		tokens.Refuse("u", first)
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
		for range 10 { // a user without a policy tries again and again
			time.Sleep(time.Second)
			tokens.Refuse("u", mustToken(t, tokens, "u"))
		}
		if n := s.fetched.Load(); n != 2 {
			t.Errorf("credentials fetched %d times by refusals within a minute", n)
		}
	})
}

// A renewal that began before a refusal neither brings the refused token back
// nor hands out one signed with what was refused.
func TestRefusalDuringRenewal(t *testing.T) {
	for _, broken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := &source{}
			tokens := newTokens(s)
			first := mustToken(t, tokens, "u")
			time.Sleep(11 * time.Minute)
			s.Invalidate()
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
			if got, want := claims(t, next).AccessKeyID, s.cached.AccessKeyID; got != want {
				t.Errorf("token of key %s, want the newest, %s", got, want)
			}
		})
	}
}

func TestRenewalThatFailsIsNotRetriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		core, logs := observer.New(zap.WarnLevel)
		tokens := newTokens(s)
		tokens.Log = zap.New(core)
		mustToken(t, tokens, "u")
		time.Sleep(11 * time.Minute)
		s.Invalidate()
		s.broken.Store(true)
		for range 30 {
			mustToken(t, tokens, "u")
			time.Sleep(time.Second)
		}
		if n := logs.Len(); n < 2 || n > 4 {
			t.Errorf("%d attempts in 30 s, want one every %v", n, retryAfter)
		}
	})
}

// Credentials with little time left serve if their source gives no others.
func TestOldCredentialsServeToTheirEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &once{aws.Credentials{AccessKeyID: "ASIA", SecretAccessKey: "secret", SessionToken: "session",
			CanExpire: true, Expires: time.Now().Add(30 * time.Second)}, 0}
		tokens := &Tokens{Endpoint: testEndpoint, Region: testRegion, Credentials: s}
		mustToken(t, tokens, "u")
		if s.asked != 2 {
			t.Errorf("asked %d times, want once more since there is little time left", s.asked)
		}
	})
}

// A token that is signed again within the second is the one that was refused:
// nobody gets it later.
func TestSameTokenIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := &Tokens{Endpoint: testEndpoint, Region: testRegion, Credentials: &source{cached: &aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: "secret"}}}
		tokens.distrusted = tokens.now() // so that the credentials stay
		first := mustToken(t, tokens, "u")
		tokens.Refuse("u", first)
		if mustToken(t, tokens, "u") != first {
			t.Fatal("signed twice within a second, and not the same")
		}
		time.Sleep(5 * time.Minute)
		if mustToken(t, tokens, "u") == first {
			t.Error("the refused token was kept")
		}
	})
}

// One user's refusals do not cost another's renewal.
func TestRefusalsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		tokens := newTokens(s)
		bad := mustToken(t, tokens, "bad")
		tokens.distrusted = tokens.now()
		s.delay = time.Second
		s.Invalidate()
		go func() { _, _ = tokens.Token(t.Context(), "good") }()
		time.Sleep(time.Second / 2)
		tokens.Refuse("bad", bad)
		time.Sleep(time.Minute)
		if tokens.lookUp("good").value == "" {
			t.Error("the other user's token was not kept")
		}
	})
}
