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
		{&Tokens{Endpoint: testEndpoint, Region: testRegion, Kind: Cluster}, "app", []string{
			testEndpoint + ` in eu-west-1 as database user "app".`, "credentials from somewhere, valid until 20", `(1) User "app" exists, `,
			"(2) An IAM policy allows the caller rds-db:connect on arn:aws:rds-db:eu-west-1:ACCOUNT:dbuser:RESOURCE_ID/app", "DbClusterResourceId",
			"(3) IAM authentication is enabled", "(4) The clock of this machine is right.", "iam-db-auth-error"}},
		{&Tokens{Endpoint: "x.rds.example:5432", Region: "us-gov-west-1", Kind: Cluster}, "app", []string{"on arn:aws-us-gov:rds-db:us-gov-west-1:"}},
		{&Tokens{Endpoint: "x.cabc.eu-west-1.rds.amazonaws.com:5432", Region: "eu-west-1", Kind: Instance}, "app", []string{"DbiResourceId"}},
		{&Tokens{Endpoint: "p.proxy-cabc.eu-west-1.rds.amazonaws.com:5432", Region: "eu-west-1", Kind: RDSProxy}, "app", []string{
			`(1) The RDS Proxy has a secret for user "app"`, "prx-", "The log group /aws/rds/proxy/p in CloudWatch"}},
		{&Tokens{Endpoint: "x.endpoint.proxy-cabc.eu-west-1.rds.amazonaws.com:5432", Region: "eu-west-1", Kind: RDSProxy}, "app", []string{"/aws/rds/proxy/NAME"}},
		{&Tokens{Endpoint: "abc.dsql.eu-west-1.on.aws:5432", Region: "eu-west-1", Kind: DSQL}, "app", []string{
			"for abc.dsql.eu-west-1.on.aws in", "dsql:DbConnect on arn:aws:dsql:eu-west-1:ACCOUNT:cluster/abc.", `AWS IAM GRANT "app"`}},
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

// TestRefusedHintWithCause verifies that a known cause comes first, and that causes which
// are not are not listed.
func TestRefusedHintWithCause(t *testing.T) {
	rejected := newError(ReasonCredentialsRejected, nil, "{source}", "the environment", "{code}", "ExpiredToken", "{remedy}", Source{Kind: SourceEnvironment}.remedy())
	for name, test := range map[string]struct {
		ahead    time.Duration
		region   string
		rejected *Error
		err      error
		want     string // the beginning of the hint
		lists    bool
	}{
		"clock is right":        {0, testRegion, nil, errNotLoaded, "The token was signed with", true},
		"clock is off a little": {59 * time.Second, testRegion, nil, errNotLoaded, "The token was signed with", true},
		"clock is off":          {-7 * time.Minute, testRegion, nil, errNotLoaded, "The clock of this machine is 7m0s behind AWS's.", true},
		"other region":          {0, "us-east-1", nil, errNotLoaded, "The token was signed for us-east-1, but the endpoint is in eu-west-1. Remove --region (or IAMPROXY_REGION), or region= in ENDPOINT. The token was", false},
		"rejected": {0, testRegion, rejected, errNotLoaded, "AWS rejects the credentials from the environment: ExpiredToken. " +
			"Get new ones (aws sso login, or export new keys and restart iamproxy).", false},
		"other region, clock and rejected": {time.Hour, "us-east-1", rejected, errNotLoaded, "The token was signed for us-east-1, ", false},
	} {
		tokens := newTokens(&fake{})
		tokens.Region = test.region
		mustToken(t, tokens, "u")
		current, _ := tokens.Identity.state()
		tokens.Identity.clock.known, tokens.Identity.clock.ahead = true, test.ahead
		tokens.Identity.verdicts.last = verdict{creds: current.creds, rejected: test.rejected, err: test.err, at: wallClock()}
		hint := tokens.RefusedHint(t.Context(), "u")
		if !strings.HasPrefix(hint, test.want) || strings.Contains(hint, "rds-db:connect") != test.lists || strings.Contains(hint, "clock is right") {
			t.Errorf("%s: hint %q", name, hint)
		}
		// Credentials without an expiry may have expired where STS does not answer.
		current.creds.CanExpire, current.creds.Expires = true, wallClock().Add(time.Hour)
		tokens.Identity.cached.creds, tokens.Identity.verdicts.last.creds = current.creds, current.creds
		const unconfirmed = "The credentials are still valid, which STS did not confirm"
		if with := tokens.RefusedHint(t.Context(), "u"); strings.Contains(hint, unconfirmed) != test.lists || strings.Contains(with, unconfirmed) {
			t.Errorf("%s: hint %q, with an expiry %q", name, hint, with)
		}
	}
}

// TestUnexpectedAuthHint verifies that the hint never suggests what would end the password
// logins of a user.
func TestUnexpectedAuthHint(t *testing.T) {
	for user, want := range map[string]string{
		"nobody":   `User "nobody" does not exist, or is not a member of rds_iam, or IAM authentication is off.`,
		"postgres": `User "postgres" is usually the administrator`,
		"root":     `User "root" is the name that libpq uses if the client sets no user`,
	} {
		for _, kind := range []Kind{Cluster, Instance, RDSProxy, DSQL, Unknown} {
			tokens := newTokens(&fake{})
			tokens.Kind = kind
			hint := tokens.UnexpectedAuthHint(user)
			if strings.Contains(strings.ToUpper(hint), "GRANT RDS_IAM TO \"") || kind == Cluster && !strings.HasPrefix(hint, want) {
				t.Errorf("%s, %s: hint %q", kind, user, hint)
			}
		}
	}
}
