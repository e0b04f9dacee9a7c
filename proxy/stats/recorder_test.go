package stats

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

var began = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// failureAt returns a failure of one client, that many seconds after began.
func failureAt(seconds int, user string, reason pgwire.Reason) Failure {
	return Failure{Last: began.Add(time.Duration(seconds) * time.Second), Times: 1, User: user, SQLSTATE: "28000", Reason: reason}
}

func TestRecorderTotals(t *testing.T) {
	var r Recorder
	if got := r.Totals(); len(got.Results) != 0 || len(got.Failures) != 0 || got.Retries != 0 {
		t.Errorf("nothing recorded: %+v", got)
	}
	f := failureAt(0, "alice", pgwire.NoToken)
	r.SessionOpened(LoginTimings{})
	r.SessionOpened(LoginTimings{})
	r.ClientFailed(Failed, f)
	r.ClientFailed(Abandoned, f)
	r.ClientFailed(Rejected, failureAt(0, "alice", pgwire.ShuttingDown))
	r.ClientDisconnected()
	r.Retried(nil)
	r.Retried(&f)
	got := r.Totals()
	if want := map[Result]int64{OK: 2, Failed: 1, Rejected: 1, Abandoned: 2}; !maps.Equal(got.Results, want) {
		t.Errorf("results %v, want %v", got.Results, want)
	}
	if want := map[FailureKind]int64{{"28000", pgwire.NoToken}: 2, {"28000", pgwire.ShuttingDown}: 1}; !maps.Equal(got.Failures, want) {
		t.Errorf("failures %v, want %v", got.Failures, want)
	}
	if got.Retries != 2 {
		t.Errorf("%d retries", got.Retries)
	}
	got.Results[OK]++ // of a copy
	if r.Totals().Results[OK] != 2 {
		t.Error("the totals were changed")
	}
}

// Failures of one kind are one, with the number of clients and the time of the first. The
// newest is first.
func TestRecorderFailures(t *testing.T) {
	var r Recorder
	first := failureAt(1, "alice", pgwire.NoToken)
	last := failureAt(3, "alice", pgwire.NoToken)
	last.Client, last.Message = "10.0.0.2:5000", "another text"
	waiting := failureAt(2, "bob", pgwire.NoToken)
	waiting.Times = 0
	r.ClientFailed(Failed, first)
	r.Retried(&waiting)
	r.ClientFailed(Failed, last)
	got := r.Failures()
	last.First, last.Times = first.Last, 2
	waiting.First = waiting.Last
	if len(got) != 2 || got[0] != last || got[1] != waiting {
		t.Errorf("got %+v, want %+v and %+v", got, last, waiting)
	}
	bob := failureAt(4, "bob", pgwire.NoToken)
	r.ClientFailed(Failed, bob)
	bob.First = waiting.Last
	if got := r.Failures(); len(got) != 2 || got[0] != bob {
		t.Errorf("got %+v, want %+v first", got, bob)
	}
}

func TestSameKind(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Failure)
		want   bool
	}{
		"reason":   {func(f *Failure) { f.Reason = pgwire.TokenTimeout }, false},
		"SQLSTATE": {func(f *Failure) { f.SQLSTATE = "08006" }, false},
		"user":     {func(f *Failure) { f.User = "bob" }, false},
		"database": {func(f *Failure) { f.Database = "other" }, false},
		"message":  {func(f *Failure) { f.Message = "other" }, true}, // has the details of one failure
		"client":   {func(f *Failure) { f.Client = "10.0.0.2:5000" }, true},
		"hint":     {func(f *Failure) { f.Hint = "other" }, true},
	} {
		one := failureAt(0, "alice", pgwire.NoToken)
		other := one
		test.change(&other)
		if one.sameKind(&other) != test.want {
			t.Errorf("other %s: same kind is %v", name, !test.want)
		}
	}
	// A server's error has no other reason than its text.
	one := failureAt(0, "alice", pgwire.ServerRefused)
	other := one
	other.Message = "other"
	if one.sameKind(&other) {
		t.Error("two errors of the server are one kind")
	}
}

func TestRecorderLimits(t *testing.T) {
	var r Recorder
	const n = 100
	for i := range n {
		r.SessionOpened(LoginTimings{Attempts: i})
		r.ClientFailed(Failed, failureAt(i, fmt.Sprint("user", i), pgwire.NoToken))
	}
	logins, failures := r.Logins(), r.Failures()
	if len(logins) != maxLogins || logins[0].Attempts != n-maxLogins || logins[maxLogins-1].Attempts != n-1 {
		t.Errorf("%d logins, want the last %d, the oldest first", len(logins), maxLogins)
	}
	if len(failures) != maxFailures || failures[0].User != "user99" || failures[maxFailures-1].User != "user80" {
		t.Errorf("%d failures, want the last %d, the newest first", len(failures), maxFailures)
	}
	if got := r.Totals(); got.Results[OK] != n || got.Failures[FailureKind{"28000", pgwire.NoToken}] != n {
		t.Errorf("totals %+v", got)
	}
}

func TestRecorderServer(t *testing.T) {
	var r Recorder
	if got := r.Server(); got != (ServerInfo{}) {
		t.Errorf("no login: %+v", got)
	}
	r.LoggedIn(ServerInfo{Address: "10.0.0.1:5432"})
	last := ServerInfo{Address: "10.0.0.2:5432", Version: "17.2"}
	r.LoggedIn(last)
	if got := r.Server(); got != last {
		t.Errorf("got %+v", got)
	}
}
