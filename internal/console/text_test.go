package console

import (
	"slices"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/proxy"
)

func TestDrainText(t *testing.T) {
	const end = " Press Ctrl-C again to close them now."
	session := func(user, application string) proxy.SessionInfo {
		return proxy.SessionInfo{User: user, ApplicationName: application}
	}
	var many []proxy.SessionInfo
	for _, name := range []string{"1", "2", "3", "4", "5", "6", "7", "1"} {
		many = append(many, session("app", name))
	}
	for _, test := range []struct {
		open     int
		sessions []proxy.SessionInfo
		least    time.Duration
		want     string
	}{
		{0, nil, 0, ""},
		{0, nil, 5 * time.Second, "No session is open. Accepting new clients for 5 s. Press Ctrl-C again to stop now."},
		{1, nil, 0, "Waiting for 1 session, 25 s at most." + end},
		{2, []proxy.SessionInfo{session("app", "orders-1"), session("app", "orders-2")}, 0, "Waiting for 2 sessions (app: orders-1, orders-2), 25 s at most." + end},
		{3, []proxy.SessionInfo{session("app", "psql"), session("report", ""), session("app", "psql")}, 0, "Waiting for 3 sessions (app: psql; report), 25 s at most." + end},
		{8, many, 0, "Waiting for 8 sessions (app: 1, 2, 3, 4, 5, 2 more), 25 s at most." + end},
	} {
		if got := DrainText(test.open, test.sessions, test.least, 25*time.Second); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
	if got := Users([]proxy.SessionInfo{session("b", ""), session("a", ""), session("b", "x")}); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("users %q", got)
	}
	if got, want := DrainText(1, []proxy.SessionInfo{session("app", "psql")}, 0, 0), "Closing 1 session (app: psql)."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
