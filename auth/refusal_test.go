package auth

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

func TestRefusedTokenIsNotUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{}
		tokens := newTokens(s)
		first := mustToken(t, tokens, "u")
		time.Sleep(2 * time.Minute)
		if !tokens.Invalidate("u", first) {
			t.Error("there will be no other")
		}
		second := mustToken(t, tokens, "u")
		if second == first {
			t.Error("the refused token is used again")
		}
		if n := s.fetched.Load(); n != 2 {
			t.Errorf("credentials fetched %d times, want anew after the refusal", n)
		}
		tokens.Invalidate("u", first) // of a slower session
		if mustToken(t, tokens, "u") != second {
			t.Error("a late refusal took the new token")
		}
		for range 10 { // a user without a policy, or throttling: another token would not do better
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

// A refused user's tokens are kept as others' are while the source is down.
func TestRefusedWhileTheSourceIsDown(t *testing.T) {
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
	tokens.Invalidate("u", old.value)
	tokens.confirm("u", old)
	if tokens.lookUp("u").value != "" {
		t.Error("the refused token is back")
	}
}

// A token that is signed again within the second is the one that was refused:
// nobody gets it later.
func TestSameTokenIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(sourceFunc(func() (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: "secret"}, nil
		}))
		first := mustToken(t, tokens, "u")
		tokens.Invalidate("u", first)
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
			t.Error("not signed anew when there are new credentials")
		}
	})
}

// Credentials that are fetched anew and are the same leave the tokens as they are.
func TestSameCredentialsAnew(t *testing.T) {
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
