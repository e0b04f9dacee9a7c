package admin

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/iamproxy/iamproxy/proxy/stats"
)

// loginBuckets are the upper bounds of the histograms, in seconds.
var loginBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// loginHistograms holds the durations of logins. It creates its histograms at the first use,
// which may be before the Server has its endpoints.
type loginHistograms struct {
	once   sync.Once
	total  *prometheus.HistogramVec // by endpoint
	phases *prometheus.HistogramVec // by endpoint and phase
}

func (h *loginHistograms) create() {
	h.once.Do(func() {
		h.total = prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "iamproxy_connect_duration_seconds",
			Help:    "Time from a client's startup packet to its session.",
			Buckets: loginBuckets,
		}, []string{"endpoint"})
		h.phases = prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "iamproxy_connect_phase_duration_seconds",
			Help: "Time from a client's startup packet to its session, by phase: queue, resolve, dial, tls, login. " +
				"A session on a connection of the pool has queue only.",
			Buckets: loginBuckets,
		}, []string{"endpoint", "phase"})
	})
}

// Describe implements prometheus.Collector.
func (h *loginHistograms) Describe(to chan<- *prometheus.Desc) {
	h.create()
	h.total.Describe(to)
	h.phases.Describe(to)
}

// Collect implements prometheus.Collector.
func (h *loginHistograms) Collect(to chan<- prometheus.Metric) {
	h.create()
	h.total.Collect(to)
	h.phases.Collect(to)
}

// Observe returns a hook for the proxy of an endpoint, which records the timings of each
// login. It may be called before the other fields of s are set.
func (s *Server) Observe(endpoint string) func(stats.LoginTimings) {
	s.logins.create()
	endpoint = valid(endpoint)
	total := s.logins.total.WithLabelValues(endpoint)
	phase := func(name string) func(time.Duration) {
		histogram := s.logins.phases.WithLabelValues(endpoint, name)
		return func(d time.Duration) { histogram.Observe(d.Seconds()) }
	}
	queue, resolve, dial, tls, login := phase("queue"), phase("resolve"), phase("dial"), phase("tls"), phase("login")
	return func(l stats.LoginTimings) {
		total.Observe(l.Total.Seconds())
		queue(l.Queue)
		if l.Attempts == 0 {
			return // a connection of the pool
		}
		resolve(l.Resolve)
		dial(l.Dial)
		tls(l.TLS)
		login(l.Login)
	}
}
