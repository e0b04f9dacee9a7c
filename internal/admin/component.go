package admin

import (
	"errors"
	"slices"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// recentPeriod is how long a failure is shown after logins have succeeded again.
const recentPeriod = 5 * time.Minute

// level is the severity of a status. String returns its CSS class.
type level int

const (
	ok   level = iota
	idle       // not tried yet
	warn
	bad
)

func (l level) String() string { return [...]string{"ok", "idle", "warn", "bad"}[l] }

// readyBut begins the title of a warning about an iamproxy that is ready.
const readyBut = "Ready, but "

// component is a part of the path from a client to its data, and its status.
type component struct {
	Name   string
	Level  level
	Status string // in a few words
	Title  string // of the page, if this component determines the overall status
	Cause  string // of a level other than ok
	Hint   string // may be empty

	failure stats.Failure // that the level comes from; the zero value for other causes
}

// components returns the components between iamproxy and the data of one endpoint:
// credentials, network and database.
func (e Endpoint) components(now time.Time) []component {
	failures, server := e.Database.Failures(), e.Database.Server()
	noToken, unreachable, refused := lastFailure(failures, culpritCredentials), lastFailure(failures, culpritNetwork), lastFailure(failures, culpritDatabase)
	lastLogin := server.At
	if logins := e.Database.Logins(); len(logins) > 0 { // includes those on connections of the pool
		lastLogin = later(lastLogin, logins[len(logins)-1].At)
	}
	serving := len(e.Database.Sessions()) > 0 || !lastLogin.IsZero() && now.Sub(lastLogin) < recentPeriod
	status, network := e.Signer.Status(), networkStatus(server, unreachable, refused, now)
	accepted := server.At.After(status.RejectedAt) && server.At.After(refused.Last)
	if status.Rejected != nil && refused.Reason == pgwire.TokenRefused {
		refused = stats.Failure{} // the database refuses what AWS rejects
	}
	credentials := credentialsStatus(status, noToken, lastLogin, now)
	if status.Rejected != nil && credentials.Level == bad && accepted {
		credentials.Level, credentials.Status, credentials.Title = warn, "rejected by STS, accepted by the database", readyBut+"STS rejects the credentials"
	}
	return []component{
		credentials,
		network,
		databaseStatus(lastLogin, serving, refused, now),
	}
}

// credentialsStatus evaluates the cached credentials without fetching any. noToken is the last
// login that got no token: a source that does not answer returns no error.
func credentialsStatus(status auth.IdentityStatus, noToken stats.Failure, lastLogin, now time.Time) component {
	c := component{Name: "AWS credentials"}
	valid := status.Expires.IsZero() || now.Before(status.Expires)
	rejected := status.Rejected != nil && valid
	err := status.Err
	if rejected {
		err = status.Rejected
	}
	if err != nil {
		c.Cause, c.Hint, c.failure.Reason = err.Error(), text.Advice(err), reasonOf(err)
	}
	switch {
	case rejected:
		c.Level, c.Status, c.Title = bad, "rejected by AWS", "AWS rejects the credentials"
	case status.Err != nil && (status.Source == "" || !valid):
		c.Level, c.Status, c.Title = bad, "cannot sign", "Cannot sign tokens"
	case status.Err != nil:
		c.Level, c.Status, c.Title = warn, "not renewed", readyBut+"the AWS credentials could not be renewed"
		if !status.Expires.IsZero() {
			c.Status += ", expire " + relative(status.Expires, now)
		}
	case noToken.Last.After(lastLogin) && (status.Source == "" || !valid && noToken.Last.After(status.Expires)):
		c.Level, c.Status, c.Title = bad, "cannot sign", "Cannot sign tokens"
		c.Cause, c.Hint, c.failure = noToken.Message, noToken.Hint, noToken
	case status.Source == "":
		c.Level, c.Status, c.Title = idle, "not fetched yet", "Started"
	case !valid:
		c.Level, c.Status, c.Title = idle, "expired "+relative(status.Expires, now)+"; renewed for the next login", "Idle"
	case status.Expires.IsZero():
		c.Status = "valid"
	default:
		c.Status = "valid, expire " + relative(status.Expires, now)
	}
	return c
}

// formatIdentity returns the ARN of the credentials' owner, or why it is not known.
func formatIdentity(status auth.IdentityStatus) string {
	switch {
	case status.Rejected != nil:
		return "rejected by STS"
	case status.Caller.ARN != "":
		return status.Caller.ARN
	case status.CallerErr != nil:
		return "unknown: STS did not return it"
	}
	return "not known yet"
}

// reasonOf returns the reason of an error, or "" if it has none.
func reasonOf(err error) pgwire.Reason {
	var known interface{ Reason() string }
	if errors.As(err, &known) {
		return pgwire.Reason(known.Reason())
	}
	return ""
}

// networkStatus evaluates the path to the database. An error of the server proves that the
// server is reachable.
func networkStatus(server stats.ServerInfo, unreachable, refused stats.Failure, now time.Time) component {
	c := component{Name: "Network and TLS"}
	reached := later(server.At, refused.Last)
	switch {
	case c.setFailure(unreachable, reached, now):
		c.Title = readyBut + "the database could not always be reached"
		if c.Level == bad {
			c.Title = "Cannot reach the database"
		}
	case reached.IsZero():
		c.Level, c.Status = idle, "no login yet"
	default:
		c.Status = "reached " + relative(reached, now)
	}
	return c
}

// databaseStatus evaluates the logins. A refusal while other clients are served is a warning:
// its cause may be that client.
func databaseStatus(lastLogin time.Time, serving bool, refused stats.Failure, now time.Time) component {
	c := component{Name: "Database"}
	switch {
	case c.setFailure(refused, lastLogin, now):
		if c.Level == bad && serving && !affectsAllClients(refused) {
			c.Level = warn
		}
		c.Title = readyBut + "some logins are refused"
		if c.Level == bad {
			c.Title = "The database refuses logins"
		}
	case lastLogin.IsZero():
		c.Level, c.Status = idle, "no login yet"
	default:
		c.Status = "last login " + relative(lastLogin, now)
	}
	return c
}

// affectsAllClients reports whether the server starts, stops or is full.
func affectsAllClients(f stats.Failure) bool {
	return slices.Contains([]string{"57P01", "57P02", "57P03", "53300"}, f.SQLSTATE)
}

// setFailure sets c to a failure if no success followed it, or if it is recent. It reports
// whether it has set c.
func (c *component) setFailure(f stats.Failure, success, now time.Time) bool {
	switch {
	case f.Last.IsZero():
		return false
	case f.Last.After(success):
		c.Level = bad
	case now.Sub(f.Last) < recentPeriod:
		c.Level = warn
	default:
		return false
	}
	c.Status = "failed " + relative(f.Last, now)
	c.Cause, c.Hint, c.failure = f.Message, f.Hint, f
	if f.Times > 1 {
		c.Status += ", " + text.Count(int64(f.Times)) + " times"
	}
	return true
}

// proxyStatus evaluates iamproxy itself.
func (s *Server) proxyStatus(draining bool, now time.Time) component {
	var open int
	var rejection stats.Failure
	for _, e := range s.Endpoints {
		open += e.Database.Counts().Sessions
		if f := lastFailure(e.Database.Failures(), culpritProxy); f.Last.After(rejection.Last) {
			rejection = f
		}
	}
	c := component{Name: "iamproxy", Status: text.Plural(open, "session")}
	if s.MaxSessions > 0 {
		c.Status = text.Count(int64(open)) + " of " + text.Plural(s.MaxSessions, "session")
	}
	switch {
	case draining:
		c.Level, c.Status = warn, "draining"
		c.Title = "Draining: " + text.Plural(open, "session") + " left"
		c.Cause = "iamproxy is shutting down. It exits when the last session has ended, or after --drain-max."
	case s.MaxSessions > 0 && open >= s.MaxSessions:
		c.Level, c.Title = warn, readyBut+"full"
		c.Cause = "No more clients are admitted: the limit is " + text.Plural(s.MaxSessions, "session") + "."
		c.Hint = s.LimitHint
	case now.Sub(rejection.Last) < recentPeriod:
		c.Level, c.Title = warn, readyBut+"clients were rejected"
		c.Cause, c.Hint, c.failure = rejection.Message, rejection.Hint, rejection
	}
	return c
}

// mostSevere returns the most severe of one component's statuses, one for each endpoint. An
// idle endpoint counts only if all are idle.
func mostSevere(statuses []component) component {
	rank := func(l level) level {
		if l == idle {
			return -1
		}
		return l
	}
	worst := statuses[0]
	for _, c := range statuses[1:] {
		if rank(c.Level) > rank(worst.Level) {
			worst = c
		}
	}
	return worst
}

// summary returns the status of an iamproxy without problems. components holds iamproxy itself
// and, if there are endpoints, credentials, network and database.
func summary(components []component) component {
	if len(components) > 1 {
		credentials, database := components[1], components[3]
		if credentials.Level == idle {
			return component{Level: idle, Title: credentials.Title, Cause: credentials.Name + ": " + credentials.Status}
		}
		if database.Level == idle {
			return component{Title: "Ready", Cause: "No client has connected yet."}
		}
	}
	return component{Title: "Ready", Cause: "Logins succeed."}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
