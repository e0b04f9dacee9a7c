package admin

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/listen"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// Limits of the lists on the page. The page shows how many entries are omitted.
const (
	maxSessionsShown = 200
	maxTokensShown   = 10
)

// certificateWarning is the remaining validity below which a server certificate is a warning.
const certificateWarning = 14 * 24 * time.Hour

// tokenLifetime is the validity of a new token.
const tokenLifetime = 15 * time.Minute

// endpointView is an endpoint on the page.
type endpointView struct {
	Endpoint Endpoint // as configured
	PSQL     string   // command line that connects
	Level    level
	Status   string
	Counts   proxy.Counts
	Open     string // number of sessions

	// Numbers with their names. Zeros are omitted.
	Totals, Traffic, Cancels, Pool, Signatures []string

	Server           stats.ServerInfo
	LastLogin        *timestamp
	Certificate      *timestamp // its expiry
	CertificateLevel level

	Channel *channelView // nil if there is none

	Signer      auth.IdentityStatus
	Identity    string
	Credentials *timestamp // their expiry

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
		PSQL:     e.psqlCommand(),
		Status:   "healthy",
		Counts:   e.Database.Counts(),
		Server:   e.Database.Server(),
		Signer:   e.Signer.Status(),
		Channel:  newChannelView(e.Channel, now),
		Chart:    newChart(e.Database.Logins(), now),
	}
	for _, c := range components {
		if c.Level > v.Level {
			v.Level, v.Status = c.Level, c.Name+": "+c.Status
		}
	}
	v.Open = text.Count(int64(v.Counts.Sessions))
	v.count(e.Tokens.Counts())
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
	v.Tokens, v.MoreTokens = tokenViews(e, now)
	v.Failures, v.MoreFailures = failureViews(e.Database.Failures(), now)
	v.Sessions, v.MoreSessions = sessionViews(e.Database.Sessions(), now)
	return v
}

// count formats the numbers of v.
func (v *endpointView) count(tokens auth.TokenCounts) {
	results, cancels, pool := v.Counts.Results, v.Counts.Cancels, v.Counts.Pool
	v.Totals = append([]string{text.Count(results[stats.OK]) + " ok"},
		numbers(number{results[stats.Failed], "failed"}, number{results[stats.Rejected], "rejected"}, number{results[stats.Abandoned], "abandoned"})...)
	if v.Counts.Up+v.Counts.Down > 0 {
		v.Traffic = []string{text.Bytes(v.Counts.Up) + " up", text.Bytes(v.Counts.Down) + " down"}
	}
	v.Cancels = numbers(number{cancels.Delivered, "delivered"}, number{cancels.Rejected, "rejected"}, number{cancels.Repeated, "repeated"}, number{cancels.Failed, "failed"})
	v.Pool = numbers(number{int64(pool.Idle), "idle"}, number{int64(pool.InUse), "in use"}, number{int64(pool.Resetting), "resetting"})
	v.Signatures = append([]string{text.Count(tokens.Signed) + " signed"}, numbers(number{tokens.Failed, "failed"})...)
}

// number is a number on the page, and what it counts.
type number struct {
	n    int64
	name string
}

// numbers formats those that are not zero.
func numbers(all ...number) (texts []string) {
	for _, one := range all {
		if one.n != 0 {
			texts = append(texts, text.Count(one.n)+" "+one.name)
		}
	}
	return texts
}

// psqlCommand returns the command line that connects to the endpoint, with the names of the
// latest session. It has placeholders for names that are not known.
func (e Endpoint) psqlCommand() string {
	var last proxy.SessionInfo
	if sessions := e.Database.Sessions(); len(sessions) > 0 {
		last = sessions[len(sessions)-1]
	}
	return listen.PSQLCommand(e.Listen, cmp.Or(e.User, last.User), cmp.Or(e.DatabaseName, last.Database))
}

// tokenViews returns the tokens that expire first, and the number of the others. It omits those
// of users that never logged in: a client may send any name.
func tokenViews(e Endpoint, now time.Time) (views []tokenView, more int) {
	expiries, known := e.Tokens.Expiries(), e.Database.Users()
	users := slices.DeleteFunc(firstKeys(expiries, len(expiries)), func(user string) bool { return !slices.Contains(known, user) })
	slices.SortStableFunc(users, func(a, b string) int { return expiries[a].Compare(expiries[b]) })
	more = max(0, len(users)-maxTokensShown)
	for _, user := range users[:len(users)-more] {
		left := 100 * expiries[user].Sub(now) / tokenLifetime
		views = append(views, tokenView{formatName(user), newTimestamp(expiries[user], now), int(min(max(left, 0), 100))})
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
			Up:          text.Bytes(s.Up),
			Down:        text.Bytes(s.Down),
			Pooled:      s.Pooled,
		})
	}
	return views, more
}

// Roles returns the chain of assumed roles.
func (v endpointView) Roles() string {
	return strings.ReplaceAll(v.Endpoint.AssumeRole, ",", ", then ")
}
