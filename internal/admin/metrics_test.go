package admin

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/proxy/cancel"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/pool"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

var update = flag.Bool("update", false, "write testdata/metrics.txt")

// scrape returns the values of iamproxy's metrics, by series.
func scrape(t *testing.T, s *Server) map[string]string {
	t.Helper()
	values := make(map[string]string)
	for line := range strings.Lines(metricsPage(t, s)) {
		if at := strings.LastIndex(line, " "); strings.HasPrefix(line, "iamproxy_") {
			values[line[:at]] = strings.TrimSpace(line[at:])
		}
	}
	return values
}

func metricsPage(t *testing.T, s *Server) string {
	t.Helper()
	got := get(s, "/metrics")
	if got.Code != http.StatusOK {
		t.Fatalf("got %d: %s", got.Code, got.Body)
	}
	return got.Body.String()
}

// allMetrics returns a server with a value in each metric.
func allMetrics() *Server {
	s := &Server{Version: "v1", Commit: "abc", MaxSessions: 100, Endpoints: []Endpoint{{
		Name: "db:5432", Listen: "127.0.0.1:5432",
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
				Pool:    pool.Stats{Idle: 11, InUse: 12, Resetting: 13},
			},
			server: stats.ServerInfo{CertificateExpiry: time.Unix(2_000_000_000, 0)},
			users:  []string{"app", "not UTF-8 \xff", "not UTF-8 \xfe", "no token"},
		},
		Signer: &fakeSigner{status: auth.IdentityStatus{Source: "environment variables", Expires: time.Unix(1_900_000_000, 0)}},
		Tokens: &fakeTokens{auth.TokenCounts{Signed: 14, Failed: 15}, map[string]time.Time{
			"app": time.Unix(1_800_000_000, 500_000_000), "not UTF-8 \xff": time.Unix(1_800_000_002, 0), "not UTF-8 \xfe": time.Unix(1_800_000_001, 0),
			"never logged in": time.Unix(1_800_000_003, 0),
		}},
		Channel: fakeChannel{
			State: ssm.Resuming, Opened: time.Unix(1_700_000_000, 0), Streams: 16, Sessions: 17, Resumes: 18, BytesIn: 19, BytesOut: 20,
			RoundTrip: 21 * time.Millisecond, Unacknowledged: 22,
		},
	}}}
	observe := s.Observe("db:5432")
	observe(stats.LoginTimings{Queue: time.Second, Resolve: 2 * time.Second, Dial: 3 * time.Second, TLS: 4 * time.Second, Login: 5 * time.Second, Total: 16 * time.Second, Attempts: 2})
	observe(stats.LoginTimings{Total: time.Millisecond})
	return s
}

// TestMetrics compares the page with testdata/metrics.txt, which promtool checks in
// deploy/prometheus/check. Reasons without a failure are omitted there.
func TestMetrics(t *testing.T) {
	var own strings.Builder
	zeros := 0
	for line := range strings.Lines(metricsPage(t, allMetrics())) {
		switch {
		case strings.HasPrefix(line, "iamproxy_login_failures_total") && strings.HasSuffix(line, " 0\n"):
			zeros++
		case strings.Contains(line, "iamproxy_"):
			own.WriteString(strings.Replace(line, runtime.Version(), "go1.26.0", 1))
		}
	}
	if want := len(pgwire.Reasons()) + len(auth.TokenReasons()); zeros != want {
		t.Errorf("%d reasons without a failure, want %d", zeros, want)
	}
	const file = "testdata/metrics.txt"
	if *update {
		if err := os.WriteFile(file, []byte(own.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(own.String(), "\n")
	for i, line := range strings.Split(string(want), "\n") {
		if i >= len(got) || got[i] != line {
			t.Fatalf("line %d of %s: got %q, want %q; run go test ./internal/admin -run TestMetrics$ -update", i+1, file, got[min(i, len(got)-1)], line)
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

// Endpoints of one name have a series of sessions for each listener, and share all others.
func TestMetricsOfTwoListeners(t *testing.T) {
	a, b := busy(time.Now()), busy(time.Now())
	b.Listen = "127.0.0.1:5433"
	b.Signer = &fakeSigner{status: auth.IdentityStatus{Expires: time.Unix(1_700_000_000, 0)}}
	got := scrape(t, &Server{Endpoints: []Endpoint{a, b}})
	for series, want := range map[string]string{
		`iamproxy_open_sessions{endpoint="` + clusterName + `",listen="127.0.0.1:5432"}`:              "50",
		`iamproxy_open_sessions{endpoint="` + clusterName + `",listen="127.0.0.1:5433"}`:              "50",
		`iamproxy_sessions_total{endpoint="` + clusterName + `",listen="127.0.0.1:5433",result="ok"}`: "5120",
		`iamproxy_login_retries_total{endpoint="` + clusterName + `"}`:                                "12",
		`iamproxy_credentials_expiry_timestamp_seconds{endpoint="` + clusterName + `"}`:               "1.7e+09", // the earliest
	} {
		if got[series] != want {
			t.Errorf("%s is %q, want %s", series, got[series], want)
		}
	}
}

// A client may send any user name.
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

func TestMetricsFollowConventions(t *testing.T) {
	s := allMetrics()
	s.Version = "not UTF-8 \xff"
	problems, err := testutil.GatherAndLint(s.registry())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "iamproxy_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	page := metricsPage(t, s)
	for _, of := range []string{"go_goroutines ", "process_open_fds "} {
		if runtime.GOOS == "linux" && !strings.Contains(page, "\n"+of) {
			t.Errorf("there is no %s", of)
		}
	}
}

// In OpenMetrics a counter's family lacks the suffix _total, and no sample of a family may
// have the name of another family or of its samples.
func TestMetricNamesAreDistinctInOpenMetrics(t *testing.T) {
	families, err := allMetrics().registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	owners := make(map[string]string)
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "iamproxy_") {
			continue // those of the Go collector are not
		}
		name, suffixes := family.GetName(), []string{}
		switch family.GetType() {
		case dto.MetricType_COUNTER:
			name, suffixes = strings.TrimSuffix(name, "_total"), []string{"_total", "_created"}
		case dto.MetricType_HISTOGRAM:
			suffixes = []string{"_bucket", "_sum", "_count", "_created"}
		case dto.MetricType_SUMMARY:
			suffixes = []string{"_sum", "_count", "_created"}
		}
		for _, suffix := range append(suffixes, "") {
			if owner, taken := owners[name+suffix]; taken {
				t.Errorf("%s is of both %s and %s", name+suffix, owner, family.GetName())
			}
			owners[name+suffix] = family.GetName()
		}
		if _, err := expfmt.MetricFamilyToOpenMetrics(io.Discard, family); err != nil {
			t.Errorf("%s: %v", family.GetName(), err)
		}
	}
}

// Observe may be called before the endpoints are set, and its hook during a scrape.
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
	if got := scrape(t, s)[`iamproxy_connect_duration_seconds_count{endpoint="db:5432"}`]; got != "1000" {
		t.Errorf("%s logins", got)
	}
}
