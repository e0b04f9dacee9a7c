package auth

import (
	"strings"
	"testing"
	"time"
)

func TestRefusedHint(t *testing.T) {
	identity := &Identity{source: &fake{life: time.Hour}}
	for _, test := range []struct {
		tokens *Tokens
		user   string
		want   []string
	}{
		{&Tokens{Endpoint: testEndpoint, Region: "us-gov-west-1", Kind: Cluster}, "app", []string{
			testEndpoint + " in us-gov-west-1 as database user app", "credentials from somewhere, valid until 20",
			"rds-db:connect on arn:aws-us-gov:rds-db:us-gov-west-1:ACCOUNT:dbuser:RESOURCE_ID/app", "DbClusterResourceId",
			"rds_iam", "clock is right", "iam-db-auth-error"}},
		{&Tokens{Endpoint: "x.cabc.eu-west-1.rds.amazonaws.com:5432", Region: "eu-west-1", Kind: Instance}, "app", []string{"DbiResourceId"}},
		{&Tokens{Endpoint: "p.proxy-cabc.eu-west-1.rds.amazonaws.com:5432", Region: "eu-west-1", Kind: RDSProxy}, "app", []string{"prx-", "IAMAuth"}},
		{&Tokens{Endpoint: "abc.dsql.eu-west-1.on.aws:5432", Region: "eu-west-1", Kind: DSQL}, "app", []string{
			"signed for abc.dsql.eu-west-1.on.aws in", "dsql:DbConnect on arn:aws:dsql:eu-west-1:ACCOUNT:cluster/abc;", `AWS IAM GRANT "app"`}},
		{&Tokens{Endpoint: "abc.dsql.eu-west-1.on.aws:5432", Region: "eu-west-1", Kind: DSQL}, "admin", []string{"dsql:DbConnectAdmin on"}},
	} {
		test.tokens.Identity = identity
		mustToken(t, test.tokens, test.user)
		hint := test.tokens.RefusedHint(t.Context(), test.user)
		for _, want := range test.want {
			if !strings.Contains(hint, want) {
				t.Errorf("hint %q does not have %q", hint, want)
			}
		}
		if strings.ContainsAny(hint, "\n\r") {
			t.Errorf("hint %q", hint)
		}
	}
}

// TestRefusedHintWithClock verifies that a clock that is off is the first cause, and
// that a clock that is right is not listed.
func TestRefusedHintWithClock(t *testing.T) {
	for ahead, want := range map[time.Duration]string{
		0:                "clock is 0s ahead of AWS's. Check, in this order: the caller",
		-7 * time.Minute: "clock is 7m0s behind AWS's. Check, in this order: this machine's clock is right; the caller",
	} {
		tokens := newTokens(&fake{})
		tokens.Identity.clock.known, tokens.Identity.clock.ahead = true, ahead
		if hint := tokens.RefusedHint(t.Context(), "u"); !strings.Contains(hint, want) || strings.Count(hint, "clock is right") != strings.Count(want, "clock is right") {
			t.Errorf("hint %q, want %q", hint, want)
		}
	}
}

// A grant of rds_iam ends the password logins of a user. The hint warns of it, and has no command
// that does it.
func TestUnexpectedAuthHint(t *testing.T) {
	hint := newTokens(&fake{}).UnexpectedAuthHint("postgres")
	if !strings.Contains(hint, `User "postgres" does not exist`) || !strings.Contains(hint, "Do not grant rds_iam to a user that still logs in with a password") {
		t.Errorf("hint %q", hint)
	}
}
