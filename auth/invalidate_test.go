package auth

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// TestInvalidate verifies that a refused token is replaced, once a minute at most.
func TestInvalidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{}
		tokens := newTokens(s)
		first := mustToken(t, tokens, "u")
		time.Sleep(2 * time.Minute)
		if !tokens.Invalidate("u", first) {
			t.Error("Invalidate reports that no other token will be signed")
		}
		second := mustToken(t, tokens, "u")
		if second == first {
			t.Error("the refused token is used again")
		}
		if n := s.fetched.Load(); n != 2 {
			t.Errorf("credentials fetched %d times, want 2", n)
		}
		tokens.Invalidate("u", first) // by a slower session
		if mustToken(t, tokens, "u") != second {
			t.Error("the late call dropped the new token")
		}
		for range 10 { // a missing policy or throttling, which a new token does not change
			time.Sleep(time.Second)
			if tokens.Invalidate("u", second) || mustToken(t, tokens, "u") != second {
				t.Fatal("another token within a minute")
			}
		}
		time.Sleep(time.Minute)
		tokens.Invalidate("u", second)
		if mustToken(t, tokens, "u") == second {
			t.Error("the refused token is used again after a minute")
		}
		if n := s.fetched.Load(); n != 3 {
			t.Errorf("credentials fetched %d times, want 3", n)
		}
	})
}

// TestInvalidateDuringRefresh verifies that a refresh that began before the refusal
// does not bring the refused token back, and that the credentials are replaced.
func TestInvalidateDuringRefresh(t *testing.T) {
	for _, broken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := &fake{life: 20 * time.Minute}
			tokens := newTokens(s)
			first := mustToken(t, tokens, "u")
			time.Sleep(11 * time.Minute)
			s.delay = time.Second
			s.broken.Store(broken)
			go func() { _, _ = tokens.Token(t.Context(), "u") }()
			time.Sleep(time.Second / 2) // the refresh waits for credentials
			tokens.Invalidate("u", first)
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

// TestInvalidateWhileSourceFails verifies that the user's next token is cached while
// no new credentials are available.
func TestInvalidateWhileSourceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{life: time.Hour}
		tokens := newTokens(s)
		first := mustToken(t, tokens, "u")
		s.broken.Store(true)
		time.Sleep(2 * time.Second)
		tokens.Invalidate("u", first)
		second := mustToken(t, tokens, "u")
		for range 30 {
			if tokens.Invalidate("u", second) || mustToken(t, tokens, "u") != second {
				t.Fatal("another token signed by the same credentials")
			}
			time.Sleep(time.Second)
		}
	})
}

// TestConfirmAfterInvalidate verifies that a token is not confirmed if it has been
// refused meanwhile.
func TestConfirmAfterInvalidate(t *testing.T) {
	tokens := newTokens(&fake{})
	mustToken(t, tokens, "u")
	old := tokens.lookUp("u")
	tokens.Invalidate("u", old.value)
	tokens.confirm("u", old)
	if tokens.lookUp("u").value != "" {
		t.Error("the refused token is back")
	}
}

// TestSameTokenIsNotCached verifies that a token that equals the refused one, since
// it is signed within the same second, is not cached.
func TestSameTokenIsNotCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(sourceFunc(func() (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: "secret"}, nil
		}))
		first := mustToken(t, tokens, "u")
		tokens.Invalidate("u", first)
		if mustToken(t, tokens, "u") != first {
			t.Fatal("two tokens of the same second differ")
		}
		time.Sleep(time.Second)
		if mustToken(t, tokens, "u") == first {
			t.Error("the refused token was cached")
		}
	})
}

// TestInvalidateForAnotherUser verifies that refusals of one user's tokens affect
// neither the tokens nor the login time of another.
func TestInvalidateForAnotherUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{life: time.Hour}
		tokens := newTokens(s)
		bad := mustToken(t, tokens, "bad")
		good := mustToken(t, tokens, "good")
		time.Sleep(time.Minute)
		tokens.Invalidate("bad", bad)
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
			t.Error("no new token after the credentials were replaced")
		}
	})
}

// TestSameCredentials verifies that tokens stay in use if a refresh returns the same
// credentials.
func TestSameCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(sourceFunc(func() (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: "secret"}, nil
		}))
		good, bad := mustToken(t, tokens, "good"), mustToken(t, tokens, "bad")
		time.Sleep(2 * time.Second)
		tokens.Invalidate("bad", bad)
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
