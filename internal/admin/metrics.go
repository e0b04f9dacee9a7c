package admin

import (
	"context"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/proxy/cancel"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/pool"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

const (
	// maxUserSeries limits the series of one metric and endpoint: a client may send any
	// user name.
	maxUserSeries = 100
	// maxUserLabel limits the characters of a user name in a label. PostgreSQL limits it to
	// 63 bytes.
	maxUserLabel = 63
)

var (
	ready             = describe("ready", "1 if /readyz reports ready: all listeners are up, tokens can be signed, and iamproxy is not draining.")
	draining          = describe("draining", "1 after SIGTERM, SIGINT or /shutdown, until the process ends.")
	buildInfo         = describe("build_info", "1; the labels identify the build.", "version", "commit", "goversion")
	sessionsLimit     = describe("sessions_limit", "Maximum number of open sessions; 0 is no limit.")
	openSessions      = describe("open_sessions", "Admitted clients, including those that are logging in.", "endpoint", "listen")
	sessionsTotal     = describe("sessions_total", "Clients that requested a session, by result: ok, failed (sent an error), rejected (not admitted), abandoned (disconnected before).", "endpoint", "listen", "result")
	loginFailures     = describe("login_failures_total", "Failed logins, by SQLSTATE and reason, including clients that disconnected before the error.", "endpoint", "sqlstate", "reason")
	loginRetries      = describe("login_retries_total", "Failed login attempts that were retried.", "endpoint")
	cancelRequests    = describe("cancel_requests_total", "Cancel requests, by result: delivered, rejected (no session has its key), repeated (the same request was being delivered), failed.", "endpoint", "result")
	transferredBytes  = describe("bytes_total", "Bytes of sessions: up (to the server) and down (from it).", "endpoint", "direction")
	poolConnections   = describe("pool_connections", "Server connections with --pool: idle, in_use, resetting.", "endpoint", "state")
	tokensSigned      = describe("tokens_signed_total", "Attempts to sign a token: ok, or failed for lack of credentials.", "endpoint", "result")
	tokenExpiry       = describe("token_expiry_timestamp_seconds", "Expiry of the cached token, as a Unix time.", "endpoint", "user")
	credentialsExpiry = describe("credentials_expiry_timestamp_seconds", "Expiry of the AWS credentials, as a Unix time. Absent if they do not expire, or before the first fetch.", "endpoint")
	certificateExpiry = describe("server_certificate_expiry_timestamp_seconds", "Expiry of the certificate of the server of the last login, as a Unix time.", "endpoint")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("iamproxy_"+name, help, labels, nil)
}

// metrics serves the Prometheus text format. In OpenMetrics two families of the Go collector
// have the same name.
func (s *Server) metrics() http.Handler {
	return promhttp.HandlerFor(s.registry(), promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

func (s *Server) registry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&s.logins, collector{s},
	)
	return registry
}

// collector reads the counters of the endpoints when it is scraped, and keeps none itself.
type collector struct{ *Server }

// Describe implements prometheus.Collector.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range append([]*prometheus.Desc{
		ready, draining, buildInfo, sessionsLimit, openSessions, sessionsTotal, loginFailures, loginRetries, cancelRequests,
		transferredBytes, poolConnections, tokensSigned, tokenExpiry, credentialsExpiry, certificateExpiry,
	}, channelDescs...) {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	to := samples(ch)
	to.gauge(buildInfo, 1, valid(c.Version), valid(c.Commit), runtime.Version())
	to.gauge(sessionsLimit, float64(c.MaxSessions))
	to.gauge(draining, boolValue(c.isDraining()))
	to.gauge(ready, boolValue(c.ready(context.Background())))
	sums := make(map[string]*endpointSums)
	for _, e := range c.Endpoints {
		name, counts := valid(e.Name), e.Database.Counts()
		to.sessions(counts, name, valid(e.Listen))
		to.channel(e.Channel, name, valid(e.Listen))
		if sums[name] == nil {
			sums[name] = newEndpointSums()
		}
		sums[name].add(e, counts)
	}
	for name, sum := range sums {
		sum.send(to, name)
	}
}

// samples receives the samples of a scrape.
type samples chan<- prometheus.Metric

func (to samples) gauge(desc *prometheus.Desc, value float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

func (to samples) counter(desc *prometheus.Desc, n int64, labels ...string) {
	to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
}

// timestamp sends t as a Unix time. It sends nothing if t is zero.
func (to samples) timestamp(desc *prometheus.Desc, t time.Time, labels ...string) {
	if !t.IsZero() {
		to.gauge(desc, float64(t.UnixMilli())/1000, labels...)
	}
}

func (to samples) sessions(counts proxy.Counts, endpoint, listen string) {
	to.gauge(openSessions, float64(counts.Sessions), endpoint, listen)
	for _, result := range []stats.Result{stats.OK, stats.Failed, stats.Rejected, stats.Abandoned} {
		to.counter(sessionsTotal, counts.Results[result], endpoint, listen, result)
	}
}

// endpointSums holds the metrics without a label for the listener, summed up over the
// endpoints of one name.
type endpointSums struct {
	failures                 map[stats.FailureKind]int64
	retries, up, down        int64
	cancels                  cancel.Stats
	pool                     pool.Stats
	signed, failed           int64
	tokens                   map[string]time.Time // the earliest expiry, by user
	credentials, certificate time.Time            // the earliest expiry
}

// newEndpointSums returns sums with a zero for each known reason, so that the first failure
// shows as an increase.
func newEndpointSums() *endpointSums {
	sum := &endpointSums{
		failures: map[stats.FailureKind]int64{{SQLSTATE: pgwire.InvalidAuthorization, Reason: pgwire.TokenRefused}: 0},
		tokens:   make(map[string]time.Time),
	}
	for reason, sqlstate := range pgwire.Reasons() {
		sum.failures[stats.FailureKind{SQLSTATE: sqlstate, Reason: reason}] = 0
	}
	for _, reason := range auth.TokenReasons() { // as pgwire.NewTokenError returns them
		sqlstate := pgwire.InvalidAuthorization
		if reason.Temporary() {
			sqlstate = pgwire.CannotConnectNow
		}
		sum.failures[stats.FailureKind{SQLSTATE: sqlstate, Reason: pgwire.Reason(reason)}] = 0
	}
	return sum
}

func (sum *endpointSums) add(e Endpoint, counts proxy.Counts) {
	for kind, n := range counts.Failures {
		kind.SQLSTATE = validSQLSTATE(kind.SQLSTATE)
		sum.failures[kind] += n
	}
	sum.retries += counts.Retries
	sum.up += counts.Up
	sum.down += counts.Down
	sum.cancels.Delivered += counts.Cancels.Delivered
	sum.cancels.Rejected += counts.Cancels.Rejected
	sum.cancels.Repeated += counts.Cancels.Repeated
	sum.cancels.Failed += counts.Cancels.Failed
	sum.pool.Idle += counts.Pool.Idle
	sum.pool.InUse += counts.Pool.InUse
	sum.pool.Resetting += counts.Pool.Resetting
	tokens := e.Tokens.Counts()
	sum.signed += tokens.Signed
	sum.failed += tokens.Failed
	expiries := e.Tokens.Expiries()
	for _, user := range e.Database.Users() { // tokens of users that never logged in are omitted
		if expiry, cached := expiries[user]; cached {
			user = valid(firstRunes(user, maxUserLabel))
			sum.tokens[user] = earlier(sum.tokens[user], expiry)
		}
	}
	sum.credentials = earlier(sum.credentials, e.Signer.Status().Expires)
	sum.certificate = earlier(sum.certificate, e.Database.Server().CertificateExpiry)
}

func (sum *endpointSums) send(to samples, endpoint string) {
	for kind, n := range sum.failures {
		to.counter(loginFailures, n, endpoint, kind.SQLSTATE, string(kind.Reason))
	}
	to.counter(loginRetries, sum.retries, endpoint)
	to.counter(cancelRequests, sum.cancels.Delivered, endpoint, "delivered")
	to.counter(cancelRequests, sum.cancels.Rejected, endpoint, "rejected")
	to.counter(cancelRequests, sum.cancels.Repeated, endpoint, "repeated")
	to.counter(cancelRequests, sum.cancels.Failed, endpoint, "failed")
	to.counter(transferredBytes, sum.up, endpoint, "up")
	to.counter(transferredBytes, sum.down, endpoint, "down")
	to.gauge(poolConnections, float64(sum.pool.Idle), endpoint, "idle")
	to.gauge(poolConnections, float64(sum.pool.InUse), endpoint, "in_use")
	to.gauge(poolConnections, float64(sum.pool.Resetting), endpoint, "resetting")
	to.counter(tokensSigned, sum.signed, endpoint, "ok")
	to.counter(tokensSigned, sum.failed, endpoint, "failed")
	for _, user := range firstKeys(sum.tokens, maxUserSeries) {
		to.timestamp(tokenExpiry, sum.tokens[user], endpoint, user)
	}
	to.timestamp(credentialsExpiry, sum.credentials, endpoint)
	to.timestamp(certificateExpiry, sum.certificate, endpoint)
}

// firstKeys returns the keys in alphabetical order, at most n of them.
func firstKeys(m map[string]time.Time, n int) []string {
	keys := slices.Sorted(maps.Keys(m))
	return keys[:min(len(keys), n)]
}

// earlier returns the earlier of two times. A zero time is not set.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// valid returns a label's value for a name that a client or the configuration chose. The
// text format requires UTF-8.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// validSQLSTATE returns "other" for anything but a SQLSTATE: a server may send any text.
func validSQLSTATE(sqlstate string) string {
	other := func(r rune) bool { return (r < '0' || r > '9') && (r < 'A' || r > 'Z') }
	if len(sqlstate) != 5 || strings.ContainsFunc(sqlstate, other) {
		return "other"
	}
	return sqlstate
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
