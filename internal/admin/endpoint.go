package admin

import (
	"slices"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// Limits of the lists on the page. The page shows how many entries are omitted.
const (
	maxSessionsShown = 200
	maxFailuresShown = 20
	maxTokensShown   = 10
)

// certificateWarning is the remaining validity below which a server certificate is a warning.
const certificateWarning = 14 * 24 * time.Hour

// tokenLifetime is the validity of a new token.
const tokenLifetime = 15 * time.Minute

// endpointView is an endpoint on the page.
type endpointView struct {
	Endpoint Endpoint // as configured
	Level    level
	Status   string
	Counts   proxy.Counts
	Up, Down string

	Server           stats.ServerInfo
	LastLogin        *timestamp
	Certificate      *timestamp // its expiry
	CertificateLevel level

	Signer      auth.IdentityStatus
	Identity    string
	Credentials *timestamp // their expiry

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
	User   excerpt
	Expiry *timestamp
	Left   int // percentage of its lifetime
}

type failureView struct {
	Last           *timestamp
	Times          int
	SQLSTATE       excerpt
	Message, Hint  excerpt
	User, Database excerpt
	Client         excerpt
}

type sessionView struct {
	ID             uint64
	User, Database excerpt
	Application    excerpt
	Client, Server excerpt
	Began          *timestamp
	Age            string
	Up, Down       string
	Pooled         bool
}

func newEndpointView(e Endpoint, components []component, now time.Time) endpointView {
	v := endpointView{
		Endpoint: e,
		Status:   "fine",
		Counts:   e.Database.Counts(),
		Server:   e.Database.Server(),
		Signer:   e.Signer.Status(),
		Signed:   e.Tokens.Counts(),
		Chart:    newChart(e.Database.Logins(), now),
	}
	for _, c := range components {
		if c.Level > v.Level {
			v.Level, v.Status = c.Level, c.Name+": "+c.Status
		}
	}
	v.Up, v.Down = formatBytes(v.Counts.Up), formatBytes(v.Counts.Down)
	v.LastLogin = newTimestamp(v.Server.At, now)
	v.Certificate = newTimestamp(v.Server.CertificateExpiry, now)
	switch left := v.Server.CertificateExpiry.Sub(now); {
	case v.Certificate == nil:
	case left < 0:
		v.CertificateLevel = bad
	case left < certificateWarning:
		v.CertificateLevel = warn
	}
	v.Identity = formatIdentity(v.Signer)
	v.Credentials = newTimestamp(v.Signer.Expires, now)
	v.Tokens, v.MoreTokens = tokenViews(e.Tokens.Expiries(), now)
	v.Failures, v.MoreFailures = failureViews(e.Database.Failures(), now)
	v.Sessions, v.MoreSessions = sessionViews(e.Database.Sessions(), now)
	return v
}

// tokenViews returns the tokens that expire first, and the number of the others.
func tokenViews(expiries map[string]time.Time, now time.Time) (views []tokenView, more int) {
	users := firstKeys(expiries, len(expiries))
	slices.SortStableFunc(users, func(a, b string) int { return expiries[a].Compare(expiries[b]) })
	more = max(0, len(users)-maxTokensShown)
	for _, user := range users[:len(users)-more] {
		left := 100 * expiries[user].Sub(now) / tokenLifetime
		views = append(views, tokenView{formatName(user), newTimestamp(expiries[user], now), int(min(max(left, 0), 100))})
	}
	return views, more
}

func failureViews(failures []stats.Failure, now time.Time) (views []failureView, more int) {
	more = max(0, len(failures)-maxFailuresShown)
	for _, f := range failures[:len(failures)-more] {
		views = append(views, failureView{
			Last:     newTimestamp(f.Last, now),
			Times:    f.Times,
			SQLSTATE: formatName(f.SQLSTATE),
			Message:  formatMessage(f.Message),
			Hint:     formatMessage(f.Hint),
			User:     formatName(f.User),
			Database: formatName(f.Database),
			Client:   formatAddress(f.Client),
		})
	}
	return views, more
}

func sessionViews(sessions []proxy.SessionInfo, now time.Time) (views []sessionView, more int) {
	more = max(0, len(sessions)-maxSessionsShown)
	for _, s := range sessions[:len(sessions)-more] {
		views = append(views, sessionView{
			ID:          s.ID,
			User:        formatName(s.User),
			Database:    formatName(s.Database),
			Application: formatName(s.ApplicationName),
			Client:      formatAddress(s.Client),
			Server:      formatAddress(s.Server),
			Began:       newTimestamp(s.Began, now),
			Age:         formatAge(max(0, now.Sub(s.Began))),
			Up:          formatBytes(s.Up),
			Down:        formatBytes(s.Down),
			Pooled:      s.Pooled,
		})
	}
	return views, more
}

// Roles returns the chain of assumed roles.
func (v endpointView) Roles() string {
	return strings.ReplaceAll(v.Endpoint.AssumeRole, ",", ", then ")
}
