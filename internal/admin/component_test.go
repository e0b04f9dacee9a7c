package admin

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

func TestOverallStatus(t *testing.T) {
	now := time.Now()
	at := func(ago time.Duration) time.Time { return now.Add(-ago) }
	failure := func(sqlstate string, reason pgwire.Reason, message string, ago time.Duration) stats.Failure {
		return stats.Failure{First: at(ago), Last: at(ago), Times: 3, SQLSTATE: sqlstate, Reason: reason, Message: message, Hint: "do something about " + sqlstate}
	}
	signs := auth.IdentityStatus{Source: "environment variables", Expires: now.Add(time.Hour)}
	cannot := errors.New("no AWS credentials")
	for name, test := range map[string]struct {
		server   *Server
		signer   auth.IdentityStatus
		login    time.Duration // ago; 0 is never
		failures []stats.Failure
		open     int

		title, cause, hint string   // a part of the cause and of the hint
		levels             [4]level // iamproxy, credentials, network, database
	}{
		"ready": {signer: signs, login: time.Second, title: "Ready", cause: "Logins succeed."},
		"no credentials fetched": {
			title: "Started", cause: "not fetched yet", levels: [4]level{ok, idle, idle, idle},
		},
		"no login yet": {signer: signs, title: "Ready", cause: "No client has connected yet.", levels: [4]level{ok, ok, idle, idle}},
		"draining": {
			server: &Server{Draining: yes}, signer: auth.IdentityStatus{Err: cannot}, login: time.Second, open: 3,
			title: "Draining: 3 sessions left", levels: [4]level{warn, bad, ok, ok},
		},
		"draining, one session left": {server: &Server{Draining: yes}, signer: signs, login: time.Second, open: 1, title: "Draining: 1 session left", levels: [4]level{warn, ok, ok, ok}},
		"full": {
			server: &Server{MaxSessions: 2, LimitHint: "Raise it."}, signer: signs, login: time.Second, open: 2,
			title: "Ready, but full", cause: "the limit is 2 sessions", hint: "Raise it.", levels: [4]level{warn, ok, ok, ok},
		},
		"cannot sign": {
			signer: auth.IdentityStatus{Err: errSSO}, login: time.Second,
			title: "Cannot sign tokens", cause: "the SSO session has expired", levels: [4]level{ok, bad, ok, ok},
		},
		"credentials rejected by STS alone": {
			signer: auth.IdentityStatus{Source: "the environment", Rejected: errRejected, RejectedAt: at(time.Minute)}, login: time.Second,
			title: "Ready, but STS rejects the credentials", cause: "ExpiredToken", levels: [4]level{ok, warn, ok, ok},
		},
		"credentials rejected": {
			signer: auth.IdentityStatus{Source: "the environment", Rejected: errRejected, RejectedAt: now}, login: time.Second,
			title: "AWS rejects the credentials", cause: "ExpiredToken", levels: [4]level{ok, bad, ok, ok},
		},
		"token refused, credentials rejected": {
			signer: auth.IdentityStatus{Source: "the environment", Rejected: errRejected}, failures: []stats.Failure{failure("28000", pgwire.TokenRefused, "PAM authentication failed", time.Second)},
			title: "AWS rejects the credentials", levels: [4]level{ok, bad, ok, idle},
		},
		"credentials expired, not renewed": {
			signer: auth.IdentityStatus{Source: "SSO", Expires: at(time.Minute), Err: errSSO}, login: time.Second,
			title: "Cannot sign tokens", levels: [4]level{ok, bad, ok, ok},
		},
		"credentials not renewed": {
			signer: auth.IdentityStatus{Source: "SSO", Expires: now.Add(time.Minute), Err: errSSO}, login: time.Second,
			title: "Ready, but the AWS credentials could not be renewed", cause: "expired", levels: [4]level{ok, warn, ok, ok},
		},
		"credentials expired while idle": {
			signer: auth.IdentityStatus{Source: "SSO", Expires: at(time.Minute)}, login: time.Hour,
			title: "Idle", cause: "renewed for the next login", levels: [4]level{ok, idle, ok, ok},
		},
		"unreachable": {
			signer: signs, failures: []stats.Failure{failure("08001", pgwire.DialRefused, "iamproxy: cannot reach it", time.Second)},
			title: "Cannot reach the database", cause: "iamproxy: cannot reach it", levels: [4]level{ok, ok, bad, idle},
		},
		"unreachable after logins": {
			signer: signs, login: time.Minute, failures: []stats.Failure{failure("08006", pgwire.NoAnswer, "iamproxy: no answer", time.Second)},
			title: "Cannot reach the database", levels: [4]level{ok, ok, bad, ok},
		},
		"reachable again": {
			signer: signs, login: time.Second, failures: []stats.Failure{failure("08006", pgwire.NoAnswer, "iamproxy: no answer", time.Minute)},
			title: "Ready, but the database could not always be reached", levels: [4]level{ok, ok, warn, ok},
		},
		"unreachable long ago": {signer: signs, login: time.Second, failures: []stats.Failure{failure("08006", pgwire.NoAnswer, "iamproxy: no answer", time.Hour)}, title: "Ready"},
		"all logins refused": {
			signer: signs, failures: []stats.Failure{failure("28000", pgwire.TokenRefused, "PAM authentication failed for user", time.Second)},
			title: "The database refuses logins", cause: "PAM authentication", levels: [4]level{ok, ok, ok, bad},
		},
		"no rds_iam": {
			signer: signs, failures: []stats.Failure{failure("28000", pgwire.PasswordRequested, "iamproxy: the server asks app for a SCRAM password, not for a token", time.Second)},
			title: "The database refuses logins", levels: [4]level{ok, ok, ok, bad},
		},
		"refused after unreachable": {
			signer: signs, failures: []stats.Failure{failure("3D000", pgwire.ServerRefused, "no such database", time.Second), failure("08001", pgwire.DialRefused, "iamproxy: cannot reach it", time.Minute)},
			title: "The database refuses logins", levels: [4]level{ok, ok, warn, bad},
		},
		"one user refused": {
			signer: signs, login: time.Second, failures: []stats.Failure{failure("28000", pgwire.TokenRefused, "PAM authentication failed for user", time.Minute)},
			title: "Ready, but some logins are refused", levels: [4]level{ok, ok, ok, warn},
		},
		"no token earlier": {
			signer: signs, login: time.Minute, failures: []stats.Failure{failure("28000", pgwire.NoToken, "iamproxy: no token for app", time.Second), failure("08006", pgwire.TokenTimeout, "iamproxy: no token for app: too slow", time.Second)},
			title: "Ready",
		},
		"failures of clients": {
			signer: signs, login: time.Hour, failures: []stats.Failure{
				failure("08P01", pgwire.HTTPRequest, "iamproxy: this is HTTP", time.Second), failure("0A000", pgwire.ProtocolUnsupported, "iamproxy: protocol 2", time.Second),
				failure("28000", pgwire.ClientAddressNotAllowed, "iamproxy: 10.0.0.7 is not allowed", time.Second), failure("57P03", pgwire.ShuttingDown, "iamproxy: shutting down", time.Second),
			},
			title: "Ready",
		},
		"too many sessions": {
			signer: signs, login: time.Hour, failures: []stats.Failure{failure("53300", pgwire.TooManySessions, "iamproxy: too many clients", time.Second)},
			title: "Ready, but clients were rejected", cause: "too many clients", levels: [4]level{warn, ok, ok, ok},
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := endpoint()
			d := &fakeDatabase{failures: test.failures, counts: proxy.Counts{Sessions: test.open}}
			if test.login != 0 {
				d.server.At = at(test.login)
			}
			e.Database, e.Signer = d, &fakeSigner{status: test.signer, ready: func(context.Context) error {
				t.Error("the page fetched credentials")
				return nil
			}}
			s := test.server
			if s == nil {
				s = &Server{}
			}
			s.Endpoints = []Endpoint{e}
			v := s.view(now)
			if v.Overall.Title != test.title || !strings.Contains(formatMessage(v.Overall.Cause).Text, test.cause) || !strings.Contains(v.Overall.Hint, test.hint) {
				t.Errorf("got title %q, cause %q, hint %q; want %q, %q, %q", v.Overall.Title, v.Overall.Cause, v.Overall.Hint, test.title, test.cause, test.hint)
			}
			for i, c := range v.Components {
				if c.Level != test.levels[i] {
					t.Errorf("%s: level %s (%s), want %s", c.Name, c.Level, c.Status, test.levels[i])
				}
			}
			if body := pageOf(t, s); !strings.Contains(body, "<title>"+test.title+" – iamproxy") {
				t.Errorf("the page has another title: %.300s", body)
			}
		})
	}
}

// A refusal is a warning while other clients are served, unless it affects all clients.
func TestDatabaseStatus(t *testing.T) {
	now := time.Now()
	before, after := now.Add(-time.Minute), now
	for name, test := range map[string]struct {
		code      string
		lastLogin time.Time
		serving   bool
		want      level
	}{
		"one client refused":  {"3D000", before, true, warn},
		"no client served":    {"28000", before, false, bad},
		"no login yet":        {"28000", time.Time{}, false, bad},
		"all clients refused": {"57P03", before, true, bad},
		"login since":         {"3D000", after, false, warn},
	} {
		refused := stats.Failure{Last: now.Add(-time.Second), Times: 1, SQLSTATE: test.code, Reason: pgwire.ServerRefused}
		if got := databaseStatus(test.lastLogin, test.serving, refused, now); got.Level != test.want {
			t.Errorf("%s: %v", name, got.Level)
		}
	}
}

// A source of credentials that does not answer has no error. A login that waited for it has.
func TestCredentialsStatusOfSilentSource(t *testing.T) {
	now := time.Now()
	noToken := stats.Failure{Last: now.Add(-time.Second), Times: 1, SQLSTATE: "08006", Reason: pgwire.TokenTimeout, Message: "iamproxy: no token for u: waiting for AWS credentials", Hint: "check that this host reaches them"}
	expired := auth.IdentityStatus{Source: "somewhere", Expires: now.Add(-time.Minute)}
	for name, test := range map[string]struct {
		status    auth.IdentityStatus
		lastLogin time.Time
		want      level
	}{
		"no credentials yet":  {auth.IdentityStatus{}, time.Time{}, bad},
		"credentials expired": {expired, now.Add(-time.Hour), bad},
		"fetched since":       {auth.IdentityStatus{Source: "somewhere"}, time.Time{}, ok},
		"login since":         {expired, now, idle},
	} {
		if got := credentialsStatus(test.status, noToken, test.lastLogin, now); got.Level != test.want || got.Level == bad && got.Cause != noToken.Message {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestMostSevere(t *testing.T) {
	unused, used, broken := component{Level: idle}, component{Level: ok, Status: "used"}, component{Level: bad, Status: "broken"}
	for _, test := range []struct {
		statuses []component
		want     component
	}{
		{[]component{unused, used}, used},
		{[]component{used, unused}, used},
		{[]component{unused, unused}, unused},
		{[]component{unused, broken, used}, broken},
	} {
		if got := mostSevere(test.statuses); got != test.want {
			t.Errorf("%+v: got %+v", test.statuses, got)
		}
	}
}
