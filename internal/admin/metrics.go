package admin

import (
	"context"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// maxUserSeries bounds the series of one metric and endpoint: a client may claim any
// user name.
const maxUserSeries = 100

// maxUser is how much of a user's name a label has; PostgreSQL's have at most 63 bytes.
const maxUser = 63

var (
	sessionsNow = describe("sessions", "Clients that are let in at the moment, those that are being logged in included.", "endpoint")
	maxSessions = describe("max_sessions", "Most clients that are let in at once; 0 is no limit.")
	sessions    = describe("sessions_total", "Clients that wanted a session, by what came of it: ok, failed (it was told why), rejected (not let in), abandoned (it left before).", "endpoint", "result")
	failures    = describe("login_failures_total", "Clients that were sent an error instead of getting a session, by its SQLSTATE and reason.", "endpoint", "sqlstate", "reason")
	retries     = describe("login_retries_total", "Attempts to log in that failed and were made again.", "endpoint")
	cancels     = describe("cancel_requests_total", "Cancel requests, by what became of them: delivered, rejected (of no session), repeated (the same was on its way), failed.", "endpoint", "result")
	transferred = describe("bytes_total", "Bytes of sessions, up (to the server) and down (from it).", "endpoint", "direction")
	pooled      = describe("pool_connections", "Connections whose sessions began with --pool on: idle, in_use, resetting.", "endpoint", "state")
	signed      = describe("tokens_signed_total", "Attempts to sign a token: ok, or failed for lack of credentials.", "endpoint", "result")
	tokenExpiry = describe("token_expiry_timestamp_seconds", "When the token at hand ends, as seconds since 1970.", "endpoint", "user")
	certExpiry  = describe("server_certificate_expiry_timestamp_seconds", "When the certificate ends of the server that was logged in to last, as seconds since 1970.", "endpoint")
	readyNow    = describe("ready", "1 if /readyz says yes: all listeners are up, tokens can be signed, and it is not draining.")
	drainingNow = describe("draining", "1 after SIGTERM, SIGINT or /shutdown, until the process ends.")
	buildInfo   = describe("build_info", "1; its labels say what runs.", "version", "commit", "goversion")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("iamproxy_"+name, help, labels, nil)
}

// metrics serves all of them, in the classic format: in OpenMetrics a gauge
// iamproxy_sessions and a counter iamproxy_sessions_total would have the same name.
func (s *Server) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(s.connects.get(), collector{s})
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// collector looks at everything when it is asked, so that nothing is counted twice.
type collector struct{ *Server }

func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		sessionsNow, maxSessions, sessions, failures, retries, cancels, transferred, pooled,
		signed, tokenExpiry, certExpiry, readyNow, drainingNow, buildInfo,
	} {
		to <- desc
	}
}

func (c collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	gauge(buildInfo, 1, valid(c.Version), valid(c.Commit), runtime.Version())
	gauge(maxSessions, float64(c.MaxSessions))
	gauge(drainingNow, number(c.isDraining()))
	gauge(readyNow, number(c.ready(context.Background())))
	for name, t := range c.tallies() {
		t.collect(to, name)
	}
}

// tally is what is counted of an endpoint, or of several that have the same name
// and differ in where they listen.
type tally struct {
	counts         proxy.Counts
	signed, failed int64
	expiries       map[string]time.Time // of tokens, by user
	certificate    time.Time
}

func (c collector) tallies() map[string]*tally {
	all := make(map[string]*tally)
	for _, e := range c.Endpoints {
		name := valid(e.Name)
		if all[name] == nil {
			all[name] = newTally()
		}
		all[name].add(e)
	}
	return all
}

// newTally has what is known to come (of the SQLSTATEs, those of iamproxy itself), so
// that the first of each shows as an increase.
func newTally() *tally {
	t := &tally{
		counts: proxy.Counts{Totals: stats.Totals{
			Results:  map[stats.Result]int64{stats.OK: 0, stats.Failed: 0, stats.Rejected: 0, stats.Abandoned: 0},
			Failures: map[stats.FailureKind]int64{{SQLSTATE: pgwire.InvalidAuthorization, Reason: pgwire.TokenRefused}: 0},
		}},
		expiries: make(map[string]time.Time),
	}
	for reason, sqlstate := range pgwire.Reasons() {
		t.counts.Failures[stats.FailureKind{SQLSTATE: sqlstate, Reason: reason}] = 0
	}
	return t
}

func (t *tally) add(e Endpoint) {
	more := e.Database.Counts()
	sum := &t.counts
	sum.Sessions += more.Sessions
	for result, n := range more.Results {
		sum.Results[result] += n
	}
	for kind, n := range more.Failures {
		kind.SQLSTATE = knownForm(kind.SQLSTATE)
		sum.Failures[kind] += n
	}
	sum.Retries += more.Retries
	sum.Up += more.Up
	sum.Down += more.Down
	sum.Cancels.Delivered += more.Cancels.Delivered
	sum.Cancels.Rejected += more.Cancels.Rejected
	sum.Cancels.Repeated += more.Cancels.Repeated
	sum.Cancels.Failed += more.Cancels.Failed
	sum.Pool.Idle += more.Pool.Idle
	sum.Pool.InUse += more.Pool.InUse
	sum.Pool.Resetting += more.Pool.Resetting
	tokens := e.Tokens.Counts()
	t.signed += tokens.Signed
	t.failed += tokens.Failed
	expiries := e.Tokens.Expiries()
	for _, user := range e.Database.Users() { // others have tokens, too, that nobody takes
		if expiry, kept := expiries[user]; kept {
			user = valid(first(user, maxUser))
			t.expiries[user] = earlier(t.expiries[user], expiry)
		}
	}
	t.certificate = earlier(t.certificate, e.Database.Server().CertificateExpiry)
}

func (t *tally) collect(to chan<- prometheus.Metric, endpoint string) {
	send := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, kind, value, append([]string{endpoint}, labels...)...)
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		send(desc, prometheus.GaugeValue, value, labels...)
	}
	counter := func(desc *prometheus.Desc, value int64, labels ...string) {
		send(desc, prometheus.CounterValue, float64(value), labels...)
	}
	gauge(sessionsNow, float64(t.counts.Sessions))
	for result, n := range t.counts.Results {
		counter(sessions, n, string(result))
	}
	for kind, n := range t.counts.Failures {
		counter(failures, n, kind.SQLSTATE, string(kind.Reason))
	}
	counter(retries, t.counts.Retries)
	counter(cancels, t.counts.Cancels.Delivered, "delivered")
	counter(cancels, t.counts.Cancels.Rejected, "rejected")
	counter(cancels, t.counts.Cancels.Repeated, "repeated")
	counter(cancels, t.counts.Cancels.Failed, "failed")
	counter(transferred, t.counts.Up, "up")
	counter(transferred, t.counts.Down, "down")
	gauge(pooled, float64(t.counts.Pool.Idle), "idle")
	gauge(pooled, float64(t.counts.Pool.InUse), "in_use")
	gauge(pooled, float64(t.counts.Pool.Resetting), "resetting")
	counter(signed, t.signed, "ok")
	counter(signed, t.failed, "failed")
	for _, user := range firstNames(t.expiries, maxUserSeries) {
		gauge(tokenExpiry, seconds(t.expiries[user]), user)
	}
	if !t.certificate.IsZero() {
		gauge(certExpiry, seconds(t.certificate))
	}
}

// firstNames are the first of them, in their order.
func firstNames(by map[string]time.Time, most int) []string {
	names := make([]string, 0, len(by))
	for name := range by {
		names = append(names, name)
	}
	slices.Sort(names)
	return names[:min(len(names), most)]
}

// earlier is the earlier time of those that are set.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// valid makes a label's value of what a client, or anybody, may have called a thing:
// one that is not UTF-8 would spoil the whole answer.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// knownForm is a SQLSTATE, or that it is none: a server may say anything.
func knownForm(sqlstate string) string {
	other := func(r rune) bool { return (r < '0' || r > '9') && (r < 'A' || r > 'Z') }
	if len(sqlstate) != 5 || strings.ContainsFunc(sqlstate, other) {
		return "other"
	}
	return sqlstate
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
