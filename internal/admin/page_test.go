package admin

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// page asks for it, and fails if it is none.
func pageOf(t *testing.T, s *Server) string {
	t.Helper()
	got := get(s, "/")
	if got.Code != http.StatusOK || got.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("got %d, %s: %s", got.Code, got.Header().Get("Content-Type"), got.Body)
	}
	return got.Body.String()
}

// The first thing that somebody on call sees says who is at fault.
func TestVerdict(t *testing.T) {
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

		title, cause string
		levels       [4]level // iamproxy, credentials, network, database
	}{
		"all is well": {signer: signs, login: time.Second, title: "Ready", cause: "clients get their sessions"},
		"nothing so far": {
			title: "Started", cause: "none fetched so far", levels: [4]level{ok, idle, idle, idle},
		},
		"no login so far": {signer: signs, title: "Ready", cause: "so far", levels: [4]level{ok, ok, idle, idle}},
		"draining": {
			server: &Server{Draining: yes}, signer: auth.IdentityStatus{Err: cannot}, login: time.Second, open: 3,
			title: "Draining: 3 sessions left", levels: [4]level{warn, bad, ok, ok},
		},
		"one is left": {server: &Server{Draining: yes}, signer: signs, login: time.Second, open: 1, title: "Draining: 1 session left", levels: [4]level{warn, ok, ok, ok}},
		"full": {
			server: &Server{MaxSessions: 2}, signer: signs, login: time.Second, open: 2,
			title: "Ready, but full", cause: "--max-sessions", levels: [4]level{warn, ok, ok, ok},
		},
		"cannot sign": {
			signer: auth.IdentityStatus{Err: errSSO}, login: time.Second,
			title: "Cannot sign tokens", cause: "the SSO session has expired", levels: [4]level{ok, bad, ok, ok},
		},
		"cannot sign any more": {
			signer: auth.IdentityStatus{Source: "SSO", Expires: at(time.Minute), Err: errSSO}, login: time.Second,
			title: "Cannot sign tokens", levels: [4]level{ok, bad, ok, ok},
		},
		"not renewed": {
			signer: auth.IdentityStatus{Source: "SSO", Expires: now.Add(time.Minute), Err: errSSO}, login: time.Second,
			title: "Ready, but the AWS credentials could not be renewed", cause: "expired", levels: [4]level{ok, warn, ok, ok},
		},
		"expired while nobody asked": {
			signer: auth.IdentityStatus{Source: "SSO", Expires: at(time.Minute)}, login: time.Hour,
			title: "Idle", cause: "renewed for the next login", levels: [4]level{ok, idle, ok, ok},
		},
		"not reached": {
			signer: signs, failures: []stats.Failure{failure("08001", pgwire.DialRefused, "iamproxy: cannot reach it", time.Second)},
			title: "Cannot reach the database", cause: "iamproxy: cannot reach it", levels: [4]level{ok, ok, bad, idle},
		},
		"not reached any more": {
			signer: signs, login: time.Minute, failures: []stats.Failure{failure("08006", pgwire.NoAnswer, "iamproxy: no answer", time.Second)},
			title: "Cannot reach the database", levels: [4]level{ok, ok, bad, ok},
		},
		"reached again": {
			signer: signs, login: time.Second, failures: []stats.Failure{failure("08006", pgwire.NoAnswer, "iamproxy: no answer", time.Minute)},
			title: "Ready, but the database could not always be reached", levels: [4]level{ok, ok, warn, ok},
		},
		"long ago": {signer: signs, login: time.Second, failures: []stats.Failure{failure("08006", pgwire.NoAnswer, "iamproxy: no answer", time.Hour)}, title: "Ready"},
		"refused": {
			signer: signs, failures: []stats.Failure{failure("28000", pgwire.TokenRefused, "PAM authentication failed for user", time.Second)},
			title: "The database refuses logins", cause: "PAM authentication", levels: [4]level{ok, ok, ok, bad},
		},
		"no rds_iam": {
			signer: signs, failures: []stats.Failure{failure("28000", pgwire.PasswordRequested, "iamproxy: the server asks app for a SCRAM password, not for a token", time.Second)},
			title: "The database refuses logins", levels: [4]level{ok, ok, ok, bad},
		},
		"reached, and refused since": {
			signer: signs, failures: []stats.Failure{failure("3D000", pgwire.ServerRefused, "no such database", time.Second), failure("08001", pgwire.DialRefused, "iamproxy: cannot reach it", time.Minute)},
			title: "The database refuses logins", levels: [4]level{ok, ok, warn, bad},
		},
		"one user among others": {
			signer: signs, login: time.Second, failures: []stats.Failure{failure("28000", pgwire.TokenRefused, "PAM authentication failed for user", time.Minute)},
			title: "Ready, but some logins are refused", levels: [4]level{ok, ok, ok, warn},
		},
		"no token at the time, though there is one now": {
			signer: signs, login: time.Minute, failures: []stats.Failure{failure("28000", pgwire.NoToken, "iamproxy: no token for app", time.Second), failure("08006", pgwire.TokenTimeout, "iamproxy: no token for app: too slow", time.Second)},
			title: "Ready",
		},
		"clients that are none": {
			signer: signs, login: time.Hour, failures: []stats.Failure{
				failure("08P01", pgwire.HTTPRequest, "iamproxy: this is HTTP", time.Second), failure("0A000", pgwire.ProtocolUnsupported, "iamproxy: protocol 2", time.Second),
				failure("28000", pgwire.ClientAddressNotAllowed, "iamproxy: 10.0.0.7 is not allowed", time.Second), failure("57P03", pgwire.ShuttingDown, "iamproxy: shutting down", time.Second),
			},
			title: "Ready",
		},
		"one too many": {
			signer: signs, login: time.Hour, failures: []stats.Failure{failure("53300", pgwire.TooManySessions, "iamproxy: too many clients", time.Second)},
			title: "Ready, but clients were turned away", cause: "too many clients", levels: [4]level{warn, ok, ok, ok},
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := endpoint()
			d := &fakeDatabase{failures: test.failures, counts: proxy.Counts{Sessions: test.open}}
			if test.login != 0 {
				d.server.At = at(test.login)
			}
			e.Database, e.Signer = d, &fakeSigner{status: test.signer, ready: func(context.Context) error {
				t.Error("the page asked AWS")
				return nil
			}}
			s := test.server
			if s == nil {
				s = &Server{}
			}
			s.Endpoints = []Endpoint{e}
			v := s.look(now)
			if v.Verdict.Title != test.title || !strings.Contains(message(v.Verdict.Cause).Text, test.cause) {
				t.Errorf("got %q, because %q; want %q, because %q", v.Verdict.Title, v.Verdict.Cause, test.title, test.cause)
			}
			for i, station := range v.Way {
				if station.Level != test.levels[i] {
					t.Errorf("%s is %s (%s), not %s", station.Name, station.Level, station.Says, test.levels[i])
				}
			}
			if body := pageOf(t, s); !strings.Contains(body, "<title>"+test.title+" – iamproxy") {
				t.Errorf("the page says otherwise: %.300s", body)
			}
		})
	}
}

// Of several endpoints it tells of the one that is worst.
func TestVerdictOfSeveral(t *testing.T) {
	now := time.Now()
	bad := troubled(now)
	v := (&Server{Endpoints: []Endpoint{busy(now), bad[1]}}).look(now)
	if want := bad[1].Name + ": no AWS credentials: the SSO session has expired"; v.Verdict.Cause != want || v.Verdict.Advice == "" {
		t.Errorf("got %q, %q, want %q", v.Verdict.Cause, v.Verdict.Advice, want)
	}
}

func TestPageShowsAll(t *testing.T) {
	now := time.Now()
	body := pageOf(t, &Server{Version: "v1.2.3", Commit: "0123456789abcdef", Endpoints: []Endpoint{busy(now)}})
	for _, want := range []string{
		"v1.2.3", "(0123456789)", "localhost:15432", "TLS 1.3", "17.5", "ends <time", " days",
		"arn:aws:sts::111122223333:assumed-role/orders-database/iamproxy", "the ECS task role", "219&nbsp;signed",
		"50&nbsp;in&nbsp;use", "12&nbsp;delivered", "48.2 MB&nbsp;up", "28000", "11", "AWS has one answer for all mistakes", "connection refused",
		"orders-api", "127.0.0.1:40112", "10.0.12.34:5432", "5 h 15 min", `aria-label="The last 52 logins: half of them took no more than`,
		now.Add(-30 * time.Second).UTC().Format("2006-01-02 15:04:05 UTC"),
		`<meta http-equiv="refresh" content="5">`, `<meta name="viewport"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("there is no %q", want)
		}
	}
	if strings.Contains(body, "ZgotmplZ") {
		t.Error("html/template took something for unsafe")
	}
	if body := get(&Server{}, "/?paused").Body.String(); strings.Contains(body, `http-equiv="refresh"`) {
		t.Error("it cannot be paused")
	}
}

func TestPageIsBounded(t *testing.T) {
	now := time.Now()
	e := busy(now)
	d := e.Database.(*fakeDatabase)
	for len(d.sessions) < 1234 {
		d.sessions = append(d.sessions, d.sessions[0])
	}
	for len(d.failures) < 99 {
		d.failures = append(d.failures, d.failures[0])
	}
	users := make(map[string]time.Time)
	for len(users) < 500 {
		users[strings.Repeat("u", len(users))] = now
	}
	e.Tokens = &fakeTokens{expiries: users}
	body := pageOf(t, &Server{Endpoints: []Endpoint{e}})
	for _, want := range []string{"and 1034 more, which began later", "and 79 more", "and 490 more that end later"} {
		if !strings.Contains(body, want) {
			t.Errorf("there is no %q", want)
		}
	}
	if n := strings.Count(body, `data-label="application"`); n != mostSessions {
		t.Errorf("%d sessions", n)
	}
}

// What clients choose to be called stays text, and can be told from what it is not.
func TestPageOfHostileNames(t *testing.T) {
	now := time.Now()
	tags := regexp.MustCompile(`<[^>]*>`)
	count := func(body string) map[string]int {
		kinds := make(map[string]int)
		for _, tag := range tags.FindAllString(body, -1) {
			kinds[strings.FieldsFunc(tag, func(r rune) bool { return r == ' ' || r == '>' || r == '\n' })[0]]++
		}
		return kinds
	}
	pageWith := func(name string) string {
		e := endpoint()
		e.Database = &fakeDatabase{
			sessions: []proxy.SessionInfo{{User: name, Database: name, ApplicationName: name, Client: name, Server: name}},
			failures: []stats.Failure{{SQLSTATE: name, Message: name, Hint: name, User: name, Database: name, Client: name, Last: now, First: now, Times: 1}},
			server:   stats.ServerInfo{At: now, Address: name, Version: name, TLS: name},
		}
		e.Tokens = &fakeTokens{expiries: map[string]time.Time{name: now}}
		return pageOf(t, &Server{Endpoints: []Endpoint{e}})
	}
	plain := count(pageWith("plain"))
	for _, name := range hostile {
		body := pageWith(name)
		for kind, n := range count(body) {
			if n != plain[kind] {
				t.Errorf("%.40q: %d times %s, not %d", name, n, kind, plain[kind])
			}
		}
		if len(body) > 60_000 {
			t.Errorf("%.40q makes a page of %d bytes", name, len(body))
		}
		for _, r := range body {
			if r == '\uFFFD' || r < ' ' && r != '\n' || r == '\u202E' {
				t.Errorf("%.40q: there is a %U", name, r)
				break
			}
		}
	}
}

func TestPageHeaders(t *testing.T) {
	h := get(&Server{}, "/").Header()
	policy := h.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "style-src 'sha256-", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy has no %s: %s", want, policy)
		}
	}
	for _, not := range []string{"unsafe", "script", "*", "http"} {
		if strings.Contains(policy, not) {
			t.Errorf("the policy has %s: %s", not, policy)
		}
	}
	body := get(&Server{}, "/").Body.String()
	style := body[strings.Index(body, "<style>")+len("<style>") : strings.Index(body, "</style>")]
	if !strings.Contains(policy, hashOf(style)) {
		t.Error("the policy is not for the style in the page")
	}
	for header, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Server": "iamproxy",
	} {
		if got := h.Get(header); got != want {
			t.Errorf("%s: %q", header, got)
		}
	}
}

// That one client is refused while others are served is not said to be the database's
// fault, but of what it says to everybody.
func TestWhomTheDatabaseRefuses(t *testing.T) {
	now := time.Now()
	before, after := now.Add(-time.Minute), now
	for name, test := range map[string]struct {
		code   string
		letIn  time.Time
		served bool
		want   level
	}{
		"one":                       {"3D000", before, true, warn},
		"nobody is served any more": {"28000", before, false, bad},
		"nobody was ever let in":    {"28000", time.Time{}, false, bad},
		"everybody":                 {"57P03", before, true, bad},
		"another was let in since":  {"3D000", after, false, warn},
	} {
		refused := stats.Failure{Last: now.Add(-time.Second), Times: 1, SQLSTATE: test.code, Reason: pgwire.ServerRefused}
		if got := database(test.letIn, test.served, refused, now); got.Level != test.want {
			t.Errorf("%s: %v", name, got.Level)
		}
	}
}

// A source of credentials that does not answer has no error to show; who waited for it
// has.
func TestCredentialsThatDoNotCome(t *testing.T) {
	now := time.Now()
	waited := stats.Failure{Last: now.Add(-time.Second), Times: 1, SQLSTATE: "08006", Message: "iamproxy: no token for u: waiting for AWS credentials", Hint: "check that this host reaches them"}
	expired := auth.IdentityStatus{Source: "somewhere", Expires: now.Add(-time.Minute)}
	for name, test := range map[string]struct {
		status auth.IdentityStatus
		letIn  time.Time
		want   level
	}{
		"never":               {auth.IdentityStatus{}, time.Time{}, bad},
		"any more":            {expired, now.Add(-time.Hour), bad},
		"but they came since": {auth.IdentityStatus{Source: "somewhere"}, time.Time{}, ok},
		"and others do":       {expired, now, idle},
	} {
		if got := credentials(test.status, waited, test.letIn, now); got.Level != test.want || got.Level == bad && got.Cause != waited.Message {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Limits of the proxy's own share their SQLSTATEs with failures of the network.
func TestOwnLimitsAreNotTheNetworks(t *testing.T) {
	for reason, want := range map[pgwire.Reason]blame{
		pgwire.QueueFull:             iamproxyItself,
		pgwire.FileDescriptorsUsedUp: iamproxyItself,
		pgwire.DialRefused:           theNetwork,
	} {
		if got := blameFor(stats.Failure{SQLSTATE: pgwire.CannotConnect, Reason: reason}); got != want {
			t.Errorf("%s: %v", reason, got)
		}
	}
}

// An endpoint that nobody has used is not the one to tell of.
func TestUnusedEndpoint(t *testing.T) {
	unused, used, broken := station{Level: idle}, station{Level: ok, Says: "used"}, station{Level: bad, Says: "broken"}
	for _, test := range []struct {
		of   []station
		want station
	}{{[]station{unused, used}, used}, {[]station{used, unused}, used}, {[]station{unused, unused}, unused}, {[]station{unused, broken, used}, broken}} {
		if got := worst(test.of, []string{"a", "b", "c"}); got != test.want {
			t.Errorf("of %+v: %+v", test.of, got)
		}
	}
}
