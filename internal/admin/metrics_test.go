package admin

import (
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/proxy/cancel"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// scrape is the answer without comments and without what the Go runtime says of itself.
func scrape(t *testing.T, s *Server) map[string]string {
	t.Helper()
	got := get(s, "/metrics")
	if got.Code != http.StatusOK {
		t.Fatalf("got %d: %s", got.Code, got.Body)
	}
	values := make(map[string]string)
	for line := range strings.Lines(got.Body.String()) {
		if at := strings.LastIndex(line, " "); strings.HasPrefix(line, "iamproxy_") {
			values[line[:at]] = strings.TrimSpace(line[at:])
		}
	}
	return values
}

func TestMetrics(t *testing.T) {
	s := &Server{Version: "v1", Commit: "abc", MaxSessions: 100, Endpoints: []Endpoint{{
		Name: "db:5432",
		Database: &fakeDatabase{
			counts: proxy.Counts{
				Totals: stats.Totals{
					Results: map[stats.Result]int64{stats.OK: 10, stats.Failed: 2},
					Failures: map[stats.FailureKind]int64{
						{SQLSTATE: "28000", Reason: pgwire.TokenRefused}: 2, {SQLSTATE: "3D000", Reason: pgwire.ServerRefused}: 1,
						{SQLSTATE: "x\xff", Reason: pgwire.ServerRefused}: 1, {Reason: pgwire.ServerRefused}: 1,
					},
					Retries: 4,
				},
				Sessions: 3, Up: 5, Down: 6,
				Cancels: cancel.Stats{Delivered: 7, Rejected: 8, Repeated: 9, Failed: 10},
				Pool:    proxy.PoolCounts{Idle: 11, InUse: 12, Resetting: 13},
			},
			server: stats.ServerInfo{CertificateExpiry: time.Unix(2_000_000_000, 0)},
			users:  []string{"app", "not UTF-8 \xff", "not UTF-8 \xfe", "idle"},
		},
		Signer: &fakeSigner{},
		Tokens: &fakeTokens{auth.TokenCounts{Signed: 14, Failed: 15}, map[string]time.Time{
			"app": time.Unix(1_800_000_000, 500_000_000), "not UTF-8 \xff": time.Unix(1_800_000_002, 0), "not UTF-8 \xfe": time.Unix(1_800_000_001, 0),
			"never let in": time.Unix(1_800_000_003, 0),
		}},
	}}}
	observe := s.Observe("db:5432")
	observe(stats.LoginTimings{Queue: time.Second, Resolve: 2 * time.Second, Dial: 3 * time.Second, TLS: 4 * time.Second, Login: 5 * time.Second, Total: 16 * time.Second, Attempts: 2})
	observe(stats.LoginTimings{Total: time.Millisecond})

	got := scrape(t, s)
	want := map[string]string{
		`iamproxy_build_info{commit="abc",goversion="` + runtime.Version() + `",version="v1"}`: "1",

		`iamproxy_ready`: "1", `iamproxy_draining`: "0", `iamproxy_max_sessions`: "100",

		`iamproxy_sessions{endpoint="db:5432"}`:                                                      "3",
		`iamproxy_sessions_total{endpoint="db:5432",result="ok"}`:                                    "10",
		`iamproxy_sessions_total{endpoint="db:5432",result="failed"}`:                                "2",
		`iamproxy_sessions_total{endpoint="db:5432",result="rejected"}`:                              "0",
		`iamproxy_sessions_total{endpoint="db:5432",result="abandoned"}`:                             "0",
		`iamproxy_login_failures_total{endpoint="db:5432",reason="token_refused",sqlstate="28000"}`:  "2",
		`iamproxy_login_failures_total{endpoint="db:5432",reason="server_refused",sqlstate="3D000"}`: "1",
		`iamproxy_login_failures_total{endpoint="db:5432",reason="server_refused",sqlstate="other"}`: "2",
		`iamproxy_login_failures_total{endpoint="db:5432",reason="dial_refused",sqlstate="08001"}`:   "0",
		`iamproxy_login_retries_total{endpoint="db:5432"}`:                                           "4",
		`iamproxy_bytes_total{direction="up",endpoint="db:5432"}`:                                    "5",
		`iamproxy_bytes_total{direction="down",endpoint="db:5432"}`:                                  "6",
		`iamproxy_cancel_requests_total{endpoint="db:5432",result="delivered"}`:                      "7",
		`iamproxy_cancel_requests_total{endpoint="db:5432",result="rejected"}`:                       "8",
		`iamproxy_cancel_requests_total{endpoint="db:5432",result="repeated"}`:                       "9",
		`iamproxy_cancel_requests_total{endpoint="db:5432",result="failed"}`:                         "10",
		`iamproxy_pool_connections{endpoint="db:5432",state="idle"}`:                                 "11",
		`iamproxy_pool_connections{endpoint="db:5432",state="in_use"}`:                               "12",
		`iamproxy_pool_connections{endpoint="db:5432",state="resetting"}`:                            "13",
		`iamproxy_tokens_signed_total{endpoint="db:5432",result="ok"}`:                               "14",
		`iamproxy_tokens_signed_total{endpoint="db:5432",result="failed"}`:                           "15",
		`iamproxy_token_expiry_timestamp_seconds{endpoint="db:5432",user="app"}`:                     "1.8000000005e+09",
		`iamproxy_server_certificate_expiry_timestamp_seconds{endpoint="db:5432"}`:                   "2e+09",
		`iamproxy_connect_seconds_bucket{endpoint="db:5432",phase="total",le="0.001"}`:               "1",
		`iamproxy_connect_seconds_bucket{endpoint="db:5432",phase="total",le="10"}`:                  "1",
		`iamproxy_connect_seconds_bucket{endpoint="db:5432",phase="total",le="30"}`:                  "2",

		// Of what became one name the token that ends first.
		`iamproxy_token_expiry_timestamp_seconds{endpoint="db:5432",user="not UTF-8 ` + "\uFFFD" + `"}`: "1.800000001e+09",
	}
	sums := map[string]string{"queue": "1", "resolve": "2", "dial": "3", "tls": "4", "login": "5", "total": "16.001"}
	for phase, sum := range sums {
		times := "1"
		if phase == "queue" || phase == "total" {
			times = "2"
		}
		want[`iamproxy_connect_seconds_sum{endpoint="db:5432",phase="`+phase+`"}`] = sum
		want[`iamproxy_connect_seconds_count{endpoint="db:5432",phase="`+phase+`"}`] = times
	}
	for series, value := range want {
		if got[series] != value {
			t.Errorf("%s is %q, want %s", series, got[series], value)
		}
	}
	for series := range got {
		_, known := want[series]
		if !known && !strings.HasPrefix(series, "iamproxy_connect_seconds_bucket") && !strings.HasSuffix(got[series], "0") {
			t.Errorf("%s %s was not expected", series, got[series])
		}
	}
}

func TestMetricsOfState(t *testing.T) {
	draining, e := false, endpoint()
	e.Signer = &fakeSigner{}
	s := &Server{Endpoints: []Endpoint{e}, Draining: func() bool { return draining }}
	check := func(ready, draining string) {
		t.Helper()
		got := scrape(t, s)
		if got["iamproxy_ready"] != ready || got["iamproxy_draining"] != draining {
			t.Errorf("ready %s, draining %s, want %s and %s", got["iamproxy_ready"], got["iamproxy_draining"], ready, draining)
		}
	}
	check("1", "0")
	draining = true
	check("0", "1")
	draining, s.Endpoints[0].Signer = false, &fakeSigner{ready: failing(errSSO)}
	check("0", "0")
}

// Endpoints may differ in where they listen, and as whom they log in, alone.
func TestMetricsOfEndpointsOfOneName(t *testing.T) {
	a, b := busy(time.Now()), busy(time.Now())
	b.Listen = "127.0.0.1:5433"
	got := scrape(t, &Server{Endpoints: []Endpoint{a, b}})
	if sum := got[`iamproxy_sessions{endpoint="`+clusterName+`"}`]; sum != "100" {
		t.Errorf("%s sessions", sum)
	}
	if sum := got[`iamproxy_sessions_total{endpoint="`+clusterName+`",result="ok"}`]; sum != "10240" {
		t.Errorf("%s sessions in all", sum)
	}
}

// Nobody makes the series grow without end by claiming names.
func TestMetricsAreBounded(t *testing.T) {
	e, expiries := endpoint(), make(map[string]time.Time)
	for i := range 1000 {
		expiries[fmt.Sprintf("user %d \xff", i)] = time.Now()
	}
	e.Tokens, e.Database = &fakeTokens{expiries: expiries}, &fakeDatabase{users: slices.Collect(maps.Keys(expiries))}
	series := 0
	for name := range scrape(t, &Server{Endpoints: []Endpoint{e}}) {
		if strings.HasPrefix(name, "iamproxy_token_expiry") {
			series++
		}
	}
	if series != maxUserSeries {
		t.Errorf("%d series", series)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	s := &Server{Version: "not UTF-8 \xff", Endpoints: []Endpoint{busy(time.Now())}}
	s.Observe(clusterName)(stats.LoginTimings{Attempts: 1, Total: time.Second})
	problems, err := testutil.CollectAndLint(collector{s})
	if err != nil {
		t.Fatal(err)
	}
	more, err := testutil.CollectAndLint(s.connects.get())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(problems, more...) {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	body := get(s, "/metrics").Body.String()
	for _, of := range []string{"go_goroutines ", "process_open_fds "} {
		if runtime.GOOS == "linux" && !strings.Contains(body, "\n"+of) {
			t.Errorf("nothing of %s", of)
		}
	}
}

// Scrapes and logins do not wait for each other, nor for the endpoints to be known.
func TestObserveBeforeEndpoints(t *testing.T) {
	s := &Server{}
	observe := s.Observe("db:5432")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1000 {
			observe(stats.LoginTimings{Attempts: 1, Total: time.Second})
		}
	}()
	s.Endpoints = []Endpoint{endpoint()}
	scrape(t, s)
	<-done
	if got := scrape(t, s)[`iamproxy_connect_seconds_count{endpoint="db:5432",phase="total"}`]; got != "1000" {
		t.Errorf("%s logins", got)
	}
}
