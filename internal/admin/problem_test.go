package admin

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// The page shows all problems, the most severe first, each with its endpoints, its hint and a
// command line.
func TestProblems(t *testing.T) {
	now := time.Now()
	v := (&Server{Endpoints: troubled(now)}).view(now)
	first, second := clusterName+" (on 127.0.0.1:5432)", "audit.cabcdefghijk.eu-central-1.rds.amazonaws.com:5432 (on 127.0.0.1:5433)"
	if v.Overall.Title != "Cannot sign tokens" || !slices.Equal(v.Affected, []string{first, second}) || v.Advice.Hint != "Run: aws sso login --profile dev" {
		t.Errorf("first problem: %+v, %q, %+v", v.Overall, v.Affected, v.Advice)
	}
	if v.Advice.URL != text.ReasonURL("sso_expired") || v.Advice.Command != "iamproxy check mydb --user USER" {
		t.Errorf("advice for the credentials: %+v", v.Advice)
	}
	var others []string
	for _, p := range v.Others {
		others = append(others, p.Heading()+": "+strings.Join(p.Endpoints, ", ")+": "+p.Advice.Command)
	}
	want := []string{
		"Cannot reach the database: " + second + ": iamproxy check audit --user audit --database audit",
		"Some logins are refused: " + first + ": iamproxy check mydb --user reporting_ro --database orders",
	}
	if !slices.Equal(others, want) {
		t.Errorf("other problems:\n%s\nwant:\n%s", strings.Join(others, "\n"), strings.Join(want, "\n"))
	}
	if body := pageOf(t, &Server{Endpoints: troubled(now)}); !strings.Contains(body, "<h2>2 more problems</h2>") {
		t.Error("the page does not count the problems")
	}
}

// An endpoint in trouble is not named if it is the only one. A drain comes before all problems.
func TestProblemsOfOneEndpoint(t *testing.T) {
	now := time.Now()
	v := (&Server{Draining: yes, Endpoints: troubled(now)[1:]}).view(now)
	if v.Overall.Title != "Draining: 0 sessions left" || v.Affected != nil || len(v.Others) != 2 || v.Others[0].Endpoints != nil {
		t.Errorf("got %+v, %q, %+v", v.Overall, v.Affected, v.Others)
	}
}

// Failures of one reason are one, with the number of clients and the users.
func TestFailuresAreGrouped(t *testing.T) {
	now := time.Now()
	fail := func(ago time.Duration, times int, user, database, sqlstate string, reason pgwire.Reason) stats.Failure {
		return stats.Failure{Last: now.Add(-ago), Times: times, User: user, Database: database, Client: "127.0.0.1:" + user, SQLSTATE: sqlstate, Reason: reason, Message: "failed for " + user, Check: "iamproxy check --user " + user}
	}
	failures := []stats.Failure{
		fail(1*time.Second, 2, "app", "orders", "28000", pgwire.PasswordRequested),
		fail(2*time.Second, 0, "app", "orders", "08001", pgwire.DialRefused),
		fail(3*time.Second, 3, "nobody", "orders", "28000", pgwire.PasswordRequested),
		fail(4*time.Second, 1, "", "", "28000", pgwire.ClientAddressNotAllowed),
		fail(5*time.Second, 1, "app", "nowhere", "3D000", pgwire.ServerRefused),
		fail(6*time.Second, 1, "app", "full", "53300", pgwire.ServerRefused),
	}
	for _, user := range []string{"a", "b", "c", "d", "app"} {
		failures = append(failures, fail(time.Minute, 10, user, "orders", "28000", pgwire.PasswordRequested))
	}
	views, more := failureViews(failures, now)
	if len(views) != 5 || more != 0 {
		t.Fatalf("%d groups and %d more", len(views), more)
	}
	password, retrying, rejected := views[0], views[1], views[3-1]
	if password.Times != 55 || password.Message.Text != "failed for app" || len(password.Logins) != maxLoginsShown || password.More != 1 || password.Last.Relative != "1 s ago" {
		t.Errorf("password requested: %+v", password)
	}
	if password.Advice.Command != "iamproxy check --user app" || password.Advice.URL != text.ReasonURL("password_requested") {
		t.Errorf("advice: %+v", password.Advice)
	}
	if retrying.Times != 0 || rejected.Logins != nil {
		t.Errorf("others: %+v, %+v", retrying, rejected)
	}
}

func TestPSQLCommand(t *testing.T) {
	for _, test := range []struct{ listen, user, database, want string }{
		{"localhost:5432", "", "", `psql "host=localhost port=5432 user=USER dbname=DATABASE"`},
		{"[::1]:5432", "", "", `psql "host=::1 port=5432 user=USER dbname=DATABASE"`},
		{"127.0.0.1:5432", "", "", `psql "host=127.0.0.1 port=5432 user=USER dbname=DATABASE"`},
		{"[::]:6432", "app", "orders", `psql "host=localhost port=6432 user=app dbname=orders"`},
		{"10.0.0.7:5432", "app", "orders", `psql "host=10.0.0.7 port=5432 user=app dbname=orders"`},
		{"/run/db/.s.PGSQL.5433", "it's", "$(reboot)", `psql "host=/run/db port=5433 user=USER dbname=DATABASE"`},
	} {
		e := endpoint()
		e.Listen, e.User, e.DatabaseName = test.listen, test.user, test.database
		if got := e.psqlCommand(); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
	e := busy(time.Now())
	if got, want := e.psqlCommand(), `psql "host=127.0.0.1 port=5432 user=app dbname=orders"`; got != want {
		t.Errorf("with sessions: got %s, want %s", got, want)
	}
}
