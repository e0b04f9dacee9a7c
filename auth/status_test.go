package auth

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestStatus verifies what Status, Counts and Expiries return as credentials come
// and go.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fake{life: time.Hour}
		tokens := newTokens(source)
		if s := tokens.Identity.Status(); s != (IdentityStatus{}) || len(tokens.Expiries()) != 0 {
			t.Errorf("before the first token: %+v, %v", s, tokens.Expiries())
		}
		began := wallClock()
		mustToken(t, tokens, "u")
		mustToken(t, tokens, "u")
		mustToken(t, tokens, "v")
		if got := tokens.Counts(); got != (TokenCounts{Signed: 2}) {
			t.Errorf("counts %+v", got)
		}
		expiries := tokens.Expiries()
		if len(expiries) != 2 || !expiries["u"].Equal(began.Add(lifetime)) {
			t.Errorf("expiries %v", expiries)
		}
		s := tokens.Identity.Status()
		if s.Source != "somewhere" || !s.Expires.Equal(began.Add(time.Hour)) || s.Err != nil || s.Caller != (Caller{}) {
			t.Errorf("status %+v", s)
		}
		current, _ := tokens.Identity.state()
		tokens.Identity.verdicts.last = verdict{creds: current.creds, caller: Caller{ARN: "arn:aws:iam::111122223333:user/u"}, at: wallClock()}
		if s := tokens.Identity.Status(); s.Caller.ARN == "" {
			t.Error("no caller in the status")
		}

		time.Sleep(lifetime)
		if left := tokens.Expiries(); len(left) != 0 {
			t.Errorf("expired tokens: %v", left)
		}

		source.broken.Store(true)
		time.Sleep(time.Hour)
		var missing *Error
		if err := tokens.Identity.Ready(t.Context()); !errors.As(err, &missing) || missing.Advice() == "" {
			t.Errorf("ready: %v", err)
		}
		if err := wait(t, tokens, time.Minute); err == nil {
			t.Error("a token without credentials")
		}
		if s := tokens.Identity.Status(); s.Err == nil {
			t.Error("no error in the status")
		}
		if got := tokens.Counts(); got.Signed != 2 || got.Failed == 0 {
			t.Errorf("counts %+v", got)
		}
		source.broken.Store(false)
		time.Sleep(time.Minute)
		mustToken(t, tokens, "u")
		if s := tokens.Identity.Status(); s.Err != nil || s.Caller != (Caller{}) {
			t.Errorf("with new credentials: %+v", s)
		}
	})
}
