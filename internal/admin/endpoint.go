package admin

import (
	"slices"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// So many of each are shown; how many more there are is said.
const (
	mostSessions = 200
	mostFailures = 20
	mostTokens   = 10
)

// endpointView is an endpoint on the page.
type endpointView struct {
	Endpoint Endpoint // as configured
	Level    level
	Says     string
	Counts   proxy.Counts
	Up       string
	Down     string

	Server      stats.ServerInfo
	LastLogin   *moment
	Certificate *moment
	CertEnds    level // how that is

	Signer      auth.IdentityStatus
	Credentials *moment

	Signed     auth.TokenCounts
	Tokens     []tokenView
	MoreTokens int

	Chart        *chart
	Failures     []failureView
	MoreFailures int
	Sessions     []sessionView
	MoreSessions int
}

type tokenView struct {
	User word
	Ends *moment
	Left int // of 100
}

type failureView struct {
	Last, First    *moment
	Times          int
	SQLSTATE       word
	Message, Hint  word
	User, Database word
	Client         word
}

type sessionView struct {
	ID             uint64
	User, Database word
	Application    word
	Client, Server word
	Began          *moment
	Age            string
	Up, Down       string
	Pooled         bool
}

func (e Endpoint) view(way []station, now time.Time) endpointView {
	v := endpointView{Endpoint: e, Says: "fine", Counts: e.Database.Counts(), Server: e.Database.Server(), Signer: e.Signer.Status(), Signed: e.Tokens.Counts()}
	for _, s := range way {
		if s.Level > v.Level {
			v.Level, v.Says = s.Level, s.Name+": "+s.Says
		}
	}
	v.Up, v.Down = size(v.Counts.Up), size(v.Counts.Down)
	v.LastLogin, v.Certificate = at(v.Server.At, now), at(v.Server.CertificateExpiry, now)
	switch left := v.Server.CertificateExpiry.Sub(now); {
	case v.Certificate == nil:
	case left < 0:
		v.CertEnds = bad
	case left < 14*24*time.Hour:
		v.CertEnds = warn
	}
	v.Credentials = at(v.Signer.Expires, now)
	v.Tokens, v.MoreTokens = tokens(e.Tokens.Expiries(), now)
	v.Chart = draw(e.Database.Logins(), now)
	failures, sessions := e.Database.Failures(), e.Database.Sessions()
	v.MoreFailures = max(0, len(failures)-mostFailures)
	for _, f := range failures[:len(failures)-v.MoreFailures] {
		v.Failures = append(v.Failures, failureView{
			Last: at(f.Last, now), First: at(f.First, now), Times: f.Times, SQLSTATE: name(f.SQLSTATE),
			Message: message(f.Message), Hint: message(f.Hint),
			User: name(f.User), Database: name(f.Database), Client: address(f.Client),
		})
	}
	v.MoreSessions = max(0, len(sessions)-mostSessions)
	for _, s := range sessions[:len(sessions)-v.MoreSessions] {
		v.Sessions = append(v.Sessions, sessionView{
			ID: s.ID, User: name(s.User), Database: name(s.Database), Application: name(s.ApplicationName),
			Client: address(s.Client), Server: address(s.Server), Began: at(s.Began, now), Age: span(max(0, now.Sub(s.Began))),
			Up: size(s.Up), Down: size(s.Down), Pooled: s.Pooled,
		})
	}
	return v
}

// tokens are those that end first.
func tokens(expiries map[string]time.Time, now time.Time) (shown []tokenView, more int) {
	users := firstKeys(expiries, len(expiries))
	slices.SortStableFunc(users, func(a, b string) int { return expiries[a].Compare(expiries[b]) })
	more = max(0, len(users)-mostTokens)
	for _, user := range users[:len(users)-more] {
		left := 100 * expiries[user].Sub(now) / (15 * time.Minute) // the whole life of a token
		shown = append(shown, tokenView{name(user), at(expiries[user], now), int(min(max(left, 0), 100))})
	}
	return shown, more
}

// Roles is who is assumed, one by the other.
func (v endpointView) Roles() string {
	return strings.ReplaceAll(v.Endpoint.AssumeRole, ",", ", then ")
}
