//go:build unix

package e2e

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// metrics holds the samples of /metrics, by `name{label="value",...}`.
func (p *process) metrics() map[string]float64 {
	p.t.Helper()
	status, body := p.get("/metrics")
	if status != http.StatusOK {
		p.t.Fatalf("/metrics says %d: %s", status, body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	values := make(map[string]float64)
	for name, family := range families {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				if name := label.GetName(); name != "endpoint" && name != "listen" { // there is one of each
					labels = append(labels, fmt.Sprintf("%s=%q", label.GetName(), label.GetValue()))
				}
			}
			key := name
			if len(labels) > 0 {
				key += "{" + strings.Join(labels, ",") + "}"
			}
			values[key] = valueOf(metric)
		}
	}
	return values
}

// valueOf returns the value of a metric, or the count of a histogram.
func valueOf(metric *dto.Metric) float64 {
	switch {
	case metric.Counter != nil:
		return metric.GetCounter().GetValue()
	case metric.Histogram != nil:
		return float64(metric.GetHistogram().GetSampleCount())
	default:
		return metric.GetGauge().GetValue()
	}
}

// Every metric changes with its subject.
func TestMetrics(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--pool=3", "--max-sessions=3")...)

	expect := func(what string, want map[string]float64) {
		t.Helper()
		var got map[string]float64
		until(t, what, func() bool {
			got = p.metrics()
			for name, value := range want {
				if v, there := got[name]; !there || v != value {
					return t.Failed()
				}
			}
			return true
		})
	}
	logins := map[string]float64{"iamproxy_open_sessions": 0, `iamproxy_sessions_total{result="ok"}`: 0, `iamproxy_tokens_signed_total{result="ok"}`: 0,
		`iamproxy_bytes_total{direction="up"}`: 0, `iamproxy_pool_connections{state="idle"}`: 0, `iamproxy_cancel_requests_total{result="delivered"}`: 0,
		"iamproxy_ready": 1, "iamproxy_draining": 0, "iamproxy_sessions_limit": 3}
	expect("nothing to have happened", logins)

	conn, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	session := map[string]float64{"iamproxy_open_sessions": 1, `iamproxy_sessions_total{result="ok"}`: 1,
		`iamproxy_tokens_signed_total{result="ok"}`: 1, `iamproxy_pool_connections{state="in_use"}`: 1, "iamproxy_connect_duration_seconds": 1}
	for _, phase := range []string{"queue", "resolve", "dial", "tls", "login"} {
		session[fmt.Sprintf("iamproxy_connect_phase_duration_seconds{phase=%q}", phase)] = 1
	}
	expect("a session", session)
	before := p.metrics()
	if before[`iamproxy_token_expiry_timestamp_seconds{user="`+aurora.IAMUser+`"}`] == 0 || before["iamproxy_server_certificate_expiry_timestamp_seconds"] == 0 {
		t.Errorf("no expiry in %v", before)
	}

	// The bytes of a session count while it lasts, and after.
	var answer string
	if err := conn.QueryRow(t.Context(), "select repeat('x', 1000000)").Scan(&answer); err != nil {
		t.Fatal(err)
	}
	during := p.metrics()
	up, down := `iamproxy_bytes_total{direction="up"}`, `iamproxy_bytes_total{direction="down"}`
	if d := during[down] - before[down]; d < 1e6 || d > 1.1e6 || during[up] <= before[up] {
		t.Errorf("bytes down from %v to %v, up from %v to %v", before[down], during[down], before[up], during[up])
	}
	labels := fmt.Sprintf(`iamproxy_open_sessions{endpoint="%s:5432",listen="127.0.0.1:%s"} 1`, aurora.DefaultHost, p.port())
	if _, body := p.get("/metrics"); !strings.Contains(body, "\n"+labels+"\n") {
		t.Errorf("/metrics lacks %s", labels)
	}
	_ = conn.Close(t.Context())
	expect("the session to end", map[string]float64{"iamproxy_open_sessions": 0, `iamproxy_pool_connections{state="idle"}`: 1})
	if after := p.metrics(); after[down] < during[down] {
		t.Errorf("bytes went down from %v to %v", during[down], after[down])
	}

	expectRefusal(t, p, aurora.PlainUser, aurora.Database, "instead of a token")
	expect("a failure", map[string]float64{`iamproxy_login_failures_total{reason="password_requested",sqlstate="28000"}`: 1, `iamproxy_sessions_total{result="failed"}`: 1})
	testCancel(t, cluster, p)
	expect("both cancel requests", map[string]float64{`iamproxy_cancel_requests_total{result="delivered"}`: 2})
}

// Strings that clients choose are escaped on the status page.
func TestStatusPage(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	hostile := `<script>alert(1)</script>`
	conn, err := pgx.Connect(t.Context(), p.conninfo(aurora.IAMUser, aurora.Database)+" sslmode=disable application_name='"+hostile+"'")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	expectRefusal(t, p, `<b>"nobody"</b>`, aurora.Database, "FATAL")
	status, body := p.get("/")
	if status != http.StatusOK {
		t.Fatalf("the status page says %d: %s", status, body)
	}
	for _, want := range []string{aurora.DefaultHost, aurora.IAMUser, aurora.Database, "TLS 1.3", "&lt;script&gt;", "&lt;b&gt;"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in the status page:\n%s", want, body)
		}
	}
	if strings.Contains(body, "<script>") || strings.Contains(body, "<b>\"") {
		t.Errorf("a client's words are in the status page as they are:\n%s", body)
	}
}

// Failures with the same reason are logged a few times, and counted.
func TestLogOfManyFailures(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	const clients = 200
	for range clients {
		if _, err := p.connect(t.Context(), aurora.PlainUser, aurora.Database); codeOf(err) != "28000" {
			t.Fatalf("a client was told %v", err)
		}
	}
	p.signal(syscall.SIGTERM)
	p.wait()
	lines, counted := 0, 0
	for line := range strings.Lines(p.logs()) {
		if !strings.Contains(line, `"msg":"connection rejected"`) {
			continue
		}
		lines++
		if _, more, ok := strings.Cut(line, `"suppressed":`); ok {
			n := 0
			if _, err := fmt.Sscanf(more, "%d", &n); err != nil {
				t.Error(err)
			}
			counted += n - 1
		}
	}
	if lines > 40 || lines+counted != clients {
		t.Errorf("%d lines that count for %d failures, want few and %d", lines, lines+counted, clients)
	}
}

// Clients that occupy the admin server do not affect sessions.
func TestSlowAdminClients(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	for range 128 { // as many as the admin server takes at once
		conn := dial(t, p.admin())
		if _, err := conn.Write([]byte("GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	if status, body := p.get("/livez"); status != http.StatusOK { // as soon as their connections are closed
		t.Errorf("/livez says %d: %s", status, body)
	}
}

// Profiles contain no memory contents: not with a session open, a login in progress, and a
// password in the arguments. The output is searched after the last test.
func TestProfilesShowNoSecret(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	socks := startSOCKS(t, &socksServer{user: socksUser, password: socksPassword, target: cluster.Addr()})
	via := "--via=socks5://" + socksUser + ":" + url.QueryEscape(socksPassword) + "@" + socks.address()
	p := startProxy(t, keyEnvironment(aurora.DefaultSessionKey), clusterArgs(cluster, via, "--pprof", "--drain-max=0s")...)
	mustConnect(t, p.conninfo(aurora.IAMUser, aurora.Database))
	cluster.SetDelay(limit)
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan error, 1)
	go func() {
		_, err := p.connect(ctx, aurora.OtherUser, aurora.Database)
		told <- err
	}()
	until(t, "a token at the server", func() bool { return len(cluster.Verdicts()) == 2 })
	for _, path := range []string{"/", "/metrics", "/livez", "/readyz", "/debug/pprof/"} {
		if status, body := p.get(path); status != 200 {
			t.Errorf("%s says %d: %s", path, status, body)
		}
	}
	profiles := []string{"profile?seconds=1", "trace?seconds=1"}
	for _, name := range []string{"allocs", "block", "goroutine", "heap", "mutex", "threadcreate"} {
		profiles = append(profiles, name, name+"?debug=1", name+"?debug=2")
	}
	for _, profile := range profiles {
		status, body := p.get("/debug/pprof/" + profile)
		if status != 200 {
			t.Errorf("%s says %d: %s", profile, status, body)
		}
		if unpacked, err := gzip.NewReader(strings.NewReader(body)); err == nil {
			content, err := io.ReadAll(unpacked)
			if err != nil {
				t.Error(err)
			}
			keep(t, profile, string(content))
		}
	}
	if status, body := p.get("/debug/pprof/cmdline"); status != 404 {
		t.Errorf("the command line: %d: %s", status, body)
	}
	cancel()
	if err := <-told; err == nil {
		t.Error("who has left is in")
	}
}
