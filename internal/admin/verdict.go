package admin

import (
	"fmt"
	"slices"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// recently is how long a failure is worth a word after logins have succeeded again.
const recently = 5 * time.Minute

// level is how a thing is; the higher, the worse. Its String is its CSS class.
type level int

const (
	ok   level = iota
	idle       // nothing has been tried so far
	warn
	bad
)

func (l level) String() string { return [...]string{"ok", "idle", "warn", "bad"}[l] }

// station is a part of the way between a client and its data, each of which is in
// somebody else's hands.
type station struct {
	Name   string
	Level  level
	Says   string // how it is, in a few words
	Title  string // the page's verdict, if it is for this station's sake
	Cause  string // of what is wrong
	Advice string // what to do about it; may be empty
}

// blame is whom a failure points to.
type blame int

const (
	theDatabase blame = iota
	theNetwork
	theCredentials
	iamproxyItself
	theClient
)

// blameFor returns what a failure points to: its reason, and for all others its SQLSTATE.
func blameFor(f stats.Failure) blame {
	switch f.Reason {
	case pgwire.NoToken, pgwire.TokenTimeout:
		return theCredentials
	case pgwire.TooManySessions, pgwire.TooManyPending, pgwire.QueueFull, pgwire.FileDescriptorsUsedUp:
		return iamproxyItself
	case pgwire.PasswordRequested, pgwire.NotWritable, pgwire.WritableUnknown, pgwire.TokenRefused:
		return theDatabase
	case pgwire.ShuttingDown, pgwire.StartupTimeout, pgwire.ClientAddressNotAllowed, pgwire.ClientUserNotAllowed, pgwire.UserMissing:
		return theClient // a shutdown is shown anyway
	}
	switch f.SQLSTATE {
	case pgwire.CannotConnect, pgwire.ConnectionFailure:
		return theNetwork
	case pgwire.ProtocolViolation, pgwire.FeatureNotSupported:
		return theClient
	}
	return theDatabase
}

// latest is the last failure that points to somebody; its zero value if none does.
func latest(all []stats.Failure, who blame) (last stats.Failure) {
	for _, f := range all {
		if blameFor(f) == who && f.Last.After(last.Last) {
			last = f
		}
	}
	return last
}

// stations are those behind iamproxy, for one endpoint.
func (e Endpoint) stations(now time.Time) []station {
	all, server := e.Database.Failures(), e.Database.Server()
	unsigned, unreached, refused := latest(all, theCredentials), latest(all, theNetwork), latest(all, theDatabase)
	letIn := server.At
	if logins := e.Database.Logins(); len(logins) > 0 { // on a connection of the pool, maybe
		letIn = later(letIn, logins[len(logins)-1].At)
	}
	served := len(e.Database.Sessions()) > 0 || !letIn.IsZero() && now.Sub(letIn) < recently
	return []station{
		credentials(e.Signer.Status(), unsigned, letIn, now),
		network(server, unreached, refused, now),
		database(letIn, served, refused, now),
	}
}

// credentials are judged by what is known without asking for them: unsigned is a login
// that got no token, as from a source that does not answer.
func credentials(status auth.IdentityStatus, unsigned stats.Failure, letIn, now time.Time) station {
	s := station{Name: "AWS credentials"}
	lasts := status.Expires.IsZero() || now.Before(status.Expires)
	if status.Err != nil {
		s.Cause, s.Advice = status.Err.Error(), text.Advice(status.Err)
	}
	switch {
	case status.Err != nil && (status.Source == "" || !lasts):
		s.Level, s.Says, s.Title = bad, "cannot sign", "Cannot sign tokens"
	case status.Err != nil:
		s.Level, s.Says, s.Title = warn, "not renewed", "Ready, but the AWS credentials could not be renewed"
		if !status.Expires.IsZero() {
			s.Says += ", end " + relative(status.Expires, now)
		}
	case unsigned.Last.After(letIn) && (status.Source == "" || !lasts && unsigned.Last.After(status.Expires)):
		s.Level, s.Says, s.Title = bad, "cannot sign", "Cannot sign tokens"
		s.Cause, s.Advice = unsigned.Message, unsigned.Hint
	case status.Source == "":
		s.Level, s.Says, s.Title = idle, "none fetched so far", "Started"
	case !lasts:
		s.Level, s.Says, s.Title = idle, "ended "+relative(status.Expires, now)+"; renewed for the next login", "Idle"
	case status.Expires.IsZero():
		s.Says = "valid"
	default:
		s.Says = "valid, end " + relative(status.Expires, now)
	}
	return s
}

// network is fine if anything came back from the database, be it a refusal.
func network(server stats.ServerInfo, unreached, refused stats.Failure, now time.Time) station {
	s := station{Name: "Network and TLS"}
	reached := later(server.At, refused.Last)
	switch {
	case s.failed(unreached, reached, now):
		s.Title = "Ready, but the database could not always be reached"
		if s.Level == bad {
			s.Title = "Cannot reach the database"
		}
	case reached.IsZero():
		s.Level, s.Says = idle, "no login so far"
	default:
		s.Says = "reached " + relative(reached, now)
	}
	return s
}

// database is at fault if it lets nobody in. That it refuses one client while others are
// served may well be that client's doing.
func database(letIn time.Time, served bool, refused stats.Failure, now time.Time) station {
	s := station{Name: "Database"}
	switch {
	case s.failed(refused, letIn, now):
		if s.Level == bad && served && !refusesAll(refused) {
			s.Level = warn
		}
		s.Title = "Ready, but some logins are refused"
		if s.Level == bad {
			s.Title = "The database refuses logins"
		}
	case letIn.IsZero():
		s.Level, s.Says = idle, "no login so far"
	default:
		s.Says = "let in " + relative(letIn, now)
	}
	return s
}

// refusesAll is about what a server says to everybody: it starts, stops, or is full.
func refusesAll(f stats.Failure) bool {
	return slices.Contains([]string{"57P01", "57P02", "57P03", "53300"}, f.SQLSTATE)
}

// failed takes up the last failure, if it is the last word or was a short time ago.
func (s *station) failed(f stats.Failure, success, now time.Time) bool {
	switch {
	case f.Last.IsZero():
		return false
	case f.Last.After(success):
		s.Level = bad
	case now.Sub(f.Last) < recently:
		s.Level = warn
	default:
		return false
	}
	s.Says = "failed " + relative(f.Last, now)
	s.Cause, s.Advice = f.Message, f.Hint
	if f.Times > 1 {
		s.Says += fmt.Sprintf(", %d times", f.Times)
	}
	return true
}

// itself is iamproxy as a station.
func (s *Server) itself(now time.Time) station {
	open := s.openSessions()
	says := count(open, "session")
	if s.MaxSessions > 0 {
		says = fmt.Sprintf("%d of at most %s", open, count(s.MaxSessions, "session"))
	}
	var turnedAway stats.Failure
	for _, e := range s.Endpoints {
		if f := latest(e.Database.Failures(), iamproxyItself); f.Last.After(turnedAway.Last) {
			turnedAway = f
		}
	}
	all := station{Name: "iamproxy", Says: says}
	switch {
	case s.isDraining():
		all.Level, all.Says = warn, "draining"
		all.Title = "Draining: " + count(open, "session") + " left"
		all.Cause = "iamproxy was told to end, and does when the last session has ended or its time is up"
	case s.MaxSessions > 0 && open >= s.MaxSessions:
		all.Level, all.Title = warn, "Ready, but full"
		all.Cause = fmt.Sprintf("%d clients have sessions, and --max-sessions lets no more in", open)
		all.Advice = "raise --max-sessions, or have the applications hold fewer connections"
	case now.Sub(turnedAway.Last) < recently:
		all.Level, all.Title = warn, "Ready, but clients were turned away"
		all.Cause, all.Advice = turnedAway.Message, turnedAway.Hint
	}
	return all
}

func (s *Server) openSessions() (n int) {
	for _, e := range s.Endpoints {
		n += e.Database.Counts().Sessions
	}
	return n
}

// worst is the one to tell of. Of several endpoints' it says whose it is. One that nobody
// has used so far is nothing to tell of while others are.
func worst(of []station, names []string) station {
	rank := func(l level) level {
		if l == idle {
			return -1
		}
		return l
	}
	at := 0
	for i, s := range of {
		if rank(s.Level) > rank(of[at].Level) {
			at = i
		}
	}
	s := of[at]
	if len(of) > 1 && s.Cause != "" {
		s.Cause = names[at] + ": " + s.Cause
	}
	return s
}

// verdict is the station for whose sake iamproxy is as it is.
func verdict(way []station) station {
	if way[0].Title != "" && (way[0].Level == idle || way[0].Level == warn && way[0].Says == "draining") {
		return way[0] // whatever else there is
	}
	for _, l := range []level{bad, warn} {
		for _, s := range way {
			if s.Level == l {
				return s
			}
		}
	}
	if len(way) > 1 && way[1].Level == idle {
		return station{Level: idle, Title: way[1].Title, Cause: way[1].Name + ": " + way[1].Says}
	}
	if len(way) > 3 && way[3].Level == idle {
		return station{Title: "Ready", Cause: "no client has logged in so far"}
	}
	return station{Title: "Ready", Cause: "clients get their sessions"}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
