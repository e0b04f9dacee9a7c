package admin

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

func pageOf(t *testing.T, s *Server) string {
	t.Helper()
	got := get(s, "/")
	if got.Code != http.StatusOK || got.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("got %d, %s: %s", got.Code, got.Header().Get("Content-Type"), got.Body)
	}
	return got.Body.String()
}

func TestPageShowsAll(t *testing.T) {
	now := time.Now()
	body := pageOf(t, &Server{Version: "v1.2.3", Commit: "0123456789abcdef", Endpoints: []Endpoint{busy(now)}})
	for _, want := range []string{
		"v1.2.3", "(0123456789)", "localhost:15432", "TLS 1.3", "17.5", "expires <time", " days",
		"arn:aws:sts::111122223333:assumed-role/orders-database/iamproxy", "the ECS task role", "219\u00a0signed",
		"50\u00a0in\u00a0use", "12\u00a0delivered", "48.2\u00a0MB\u00a0up", "5,120\u00a0ok", "28000", "11", "AWS has one answer for all mistakes", "connection refused",
		"orders-api", "127.0.0.1:40112", "10.0.12.34:5432", "5 h 15 min", `aria-label="The last 52 logins: half of them took`,
		now.Add(-30 * time.Second).UTC().Format("2006-01-02 15:04:05 UTC"),
		`<noscript><meta http-equiv="refresh" content="5"></noscript>`, `<meta name="viewport"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(body, "ZgotmplZ") {
		t.Error("html/template has rejected a value")
	}
	if body := get(&Server{}, "/?paused").Body.String(); strings.Contains(body, `http-equiv="refresh"`) {
		t.Error("?paused has no effect")
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
		f := d.failures[0]
		f.SQLSTATE = fmt.Sprint(len(d.failures))
		d.failures = append(d.failures, f)
	}
	users := make(map[string]time.Time)
	for len(users) < 500 {
		users[strings.Repeat("u", len(users))] = now
	}
	e.Tokens, d.users = &fakeTokens{expiries: users}, slices.Collect(maps.Keys(users))
	body := pageOf(t, &Server{Endpoints: []Endpoint{e}})
	for _, want := range []string{"and 1034 more that began later", "and 79 more", "and 490 more that expire later"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n := strings.Count(body, `data-label="application"`); n != maxSessionsShown {
		t.Errorf("%d sessions", n)
	}
}

// Text that a client chose adds no elements to the page, and has no invisible characters.
func TestPageEscapesHostileNames(t *testing.T) {
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
			failures: []stats.Failure{{SQLSTATE: name, Reason: pgwire.ServerRefused, Message: name, Hint: name, User: name, Database: name, Client: name, Last: now, First: now, Times: 1}},
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
				t.Errorf("%.40q: %d elements %s, want %d", name, n, kind, plain[kind])
			}
		}
		if len(body) > 60_000 {
			t.Errorf("%.40q makes a page of %d bytes", name, len(body))
		}
		for _, r := range body {
			if r == '\uFFFD' || r < ' ' && r != '\n' || r == '\u202E' {
				t.Errorf("%.40q: the page has a %U", name, r)
				break
			}
		}
	}
}

func TestPageHeaders(t *testing.T) {
	h := get(&Server{}, "/").Header()
	policy := h.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "style-src 'sha256-", "script-src 'sha256-", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy has no %s: %s", want, policy)
		}
	}
	for _, not := range []string{"unsafe", "*", "http"} {
		if strings.Contains(policy, not) {
			t.Errorf("the policy has %s: %s", not, policy)
		}
	}
	body := get(&Server{}, "/").Body.String()
	for begin, end := range map[string]string{"<style>": "</style>", `<script type="module">`: "</script>"} {
		_, rest, _ := strings.Cut(body, begin)
		source, _, found := strings.Cut(rest, end)
		if !found || !strings.Contains(policy, sourceHash(source)) {
			t.Errorf("the policy does not allow the %s in the page", begin)
		}
	}
	for header, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Server": "iamproxy",
	} {
		if got := h.Get(header); got != want {
			t.Errorf("%s: %q", header, got)
		}
	}
}
