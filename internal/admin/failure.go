package admin

import (
	"slices"
	"time"

	"github.com/iamproxy/iamproxy/proxy/stats"
)

// Limits of the list of failures. The page shows how many entries are omitted.
const (
	maxFailuresShown = 20
	maxLoginsShown   = 5 // of one failure
)

// failureView is the failures of one reason on the page.
type failureView struct {
	Last     *timestamp
	Times    int // clients; 0 while all still wait
	Reason   string
	SQLSTATE excerpt
	Message  excerpt // of the last failure, as the advice
	Advice   advice
	Logins   []loginView
	More     int // omitted logins
	Client   excerpt
}

// loginView is a login that failed. Both names may be empty.
type loginView struct{ User, Database excerpt }

// failureViews groups failures, the newest first, by reason and SQLSTATE.
func failureViews(failures []stats.Failure, now time.Time) (views []failureView, more int) {
	type kind struct{ reason, sqlstate string }
	index := make(map[kind]int)
	for _, f := range failures {
		key := kind{string(f.Reason), f.SQLSTATE}
		i, known := index[key]
		if !known {
			i = len(views)
			index[key] = i
			views = append(views, newFailureView(f, now))
		}
		v := &views[i]
		v.Times += f.Times
		login := loginView{formatName(f.User), formatName(f.Database)}
		switch {
		case f.User == "" || slices.Contains(v.Logins, login):
		case len(v.Logins) == maxLoginsShown:
			v.More++
		default:
			v.Logins = append(v.Logins, login)
		}
	}
	more = max(0, len(views)-maxFailuresShown)
	return views[:len(views)-more], more
}

// newFailureView returns the view of a failure, without its logins and its number.
func newFailureView(f stats.Failure, now time.Time) failureView {
	return failureView{
		Last:     newTimestamp(f.Last, now),
		Reason:   string(f.Reason),
		SQLSTATE: formatName(f.SQLSTATE),
		Message:  formatMessage(f.Message),
		Advice:   newAdvice(f.Hint, f.Check, f.Reason),
		Client:   formatAddress(f.Client),
	}
}
