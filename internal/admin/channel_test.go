package admin

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
)

func TestPageShowsChannel(t *testing.T) { synctest.Test(t, testPageShowsChannel) }

func testPageShowsChannel(t *testing.T) {
	now := time.Now()
	for name, test := range map[string]struct {
		status ssm.Status
		want   []string
		not    []string
	}{
		"before the first session": {
			ssm.Status{State: ssm.Closed},
			[]string{`<dd class="idle">closed</dd>`, "0\u00a0B\u00a0up", "0\u00a0sessions"},
			[]string{"error", "target", "SSM Agent", "round trip", "unacknowledged"},
		},
		"resuming": {
			ssm.Status{
				State: ssm.Resuming, Since: now.Add(-5 * time.Second), Target: "i-0123456789abcdef0", SessionID: "dev-0a1b", Agent: "3.3.987.0",
				Opened: now.Add(-2 * time.Hour), Streams: 7, Sessions: 1, Resumes: 3, BytesIn: 5_200_000, BytesOut: 48_000,
				RoundTrip: 41 * time.Millisecond, Unacknowledged: 3072,
			},
			[]string{
				`<dd class="warn">resuming since <time`, "5 s ago", "i-0123456789abcdef0", "3.3.987.0", "dev-0a1b", "2 h 0 min ago", "<dd>7</dd>",
				"48.0\u00a0kB\u00a0up", "5.2\u00a0MB\u00a0down", "3.1\u00a0kB\u00a0unacknowledged", "41 ms", "1\u00a0session ", "3\u00a0resumes",
			},
			[]string{"error"},
		},
		"open":   {ssm.Status{State: ssm.Open}, []string{`<dd class="ok">open</dd>`}, nil},
		"failed": {ssm.Status{State: ssm.Closed, Err: errors.New("no <target>")}, []string{`<dd class="bad">closed</dd>`, "no &lt;target&gt;"}, nil},
	} {
		e := endpoint()
		e.Channel = fakeChannel(test.status)
		_, section, found := strings.Cut(pageOf(t, &Server{Endpoints: []Endpoint{e}}), "<h3>Session Manager</h3>")
		section, _, _ = strings.Cut(section, "</section>")
		if !found {
			t.Errorf("%s: not on the page", name)
		}
		for _, want := range test.want {
			if !strings.Contains(section, want) {
				t.Errorf("%s: no %q in %s", name, want, section)
			}
		}
		for _, not := range test.not {
			if strings.Contains(section, not) {
				t.Errorf("%s: %q in %s", name, not, section)
			}
		}
	}
}

// Neither the page nor the metrics have anything about Session Manager without a session.
func TestNoChannel(t *testing.T) {
	s := &Server{Endpoints: []Endpoint{endpoint()}}
	if strings.Contains(pageOf(t, s), "Session Manager") {
		t.Error("the page has a session")
	}
	for series := range scrape(t, s) {
		if strings.Contains(series, "_ssm_") {
			t.Errorf("there is a metric %s", series)
		}
	}
	s.Endpoints[0].Channel = fakeChannel{State: ssm.Closed}
	for series, present := range map[string]bool{
		`iamproxy_ssm_session_state{endpoint="` + clusterName + `",listen="127.0.0.1:5432",state="closed"}`:    true,
		`iamproxy_ssm_session_start_timestamp_seconds{endpoint="` + clusterName + `",listen="127.0.0.1:5432"}`: false,
		`iamproxy_ssm_round_trip_seconds{endpoint="` + clusterName + `",listen="127.0.0.1:5432"}`:              false,
	} {
		if _, found := scrape(t, s)[series]; found != present {
			t.Errorf("%s: %v", series, found)
		}
	}
}
