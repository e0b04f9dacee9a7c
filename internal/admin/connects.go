package admin

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/iamproxy/iamproxy/proxy/stats"
)

// connects is the histogram of how long logins take. It is there before the
// endpoints are, and made when it is first needed.
type connects struct {
	once      sync.Once
	histogram *prometheus.HistogramVec
}

func (c *connects) get() *prometheus.HistogramVec {
	c.once.Do(func() {
		c.histogram = prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "iamproxy_connect_seconds",
			Help: "How long clients waited for their sessions, by phase: queue (their turn), resolve, dial, tls, login, and total. " +
				"A client that got a connection of the pool has only queue and total.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"endpoint", "phase"})
	})
	return c.histogram
}

// Observe returns what has to be told of each login to an endpoint, as a hook of its
// proxy. It may be called before the proxy, or anything else of the Server, is there.
func (s *Server) Observe(endpoint string) func(stats.LoginTimings) {
	histogram := s.connects.get().MustCurryWith(prometheus.Labels{"endpoint": valid(endpoint)})
	phase := func(name string) func(time.Duration) {
		observer := histogram.WithLabelValues(name)
		return func(took time.Duration) { observer.Observe(took.Seconds()) }
	}
	queue, resolve, dial, tls := phase("queue"), phase("resolve"), phase("dial"), phase("tls")
	login, total := phase("login"), phase("total")
	return func(l stats.LoginTimings) {
		queue(l.Queue)
		total(l.Total)
		if l.Attempts == 0 {
			return // the other steps were another client's
		}
		resolve(l.Resolve)
		dial(l.Dial)
		tls(l.TLS)
		login(l.Login)
	}
}
