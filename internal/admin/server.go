// Package admin answers, over HTTP, those who watch iamproxy: is it alive, is it
// ready, what does it do, and what is wrong. It knows nothing of PostgreSQL's wire
// protocol, and asks AWS nothing by itself.
package admin

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// Server answers those who watch iamproxy. All fields may be left out, and must not
// change after the first call of Handler; Observe may be called before they are set.
type Server struct {
	// Endpoints are the databases that are served.
	Endpoints []Endpoint
	// Draining reports whether iamproxy is about to end. If nil, it never is.
	Draining func() bool
	// Shutdown begins the drain, and does not wait for it. It may be called more
	// than once. If nil, there is no /shutdown.
	Shutdown func()
	// MaxSessions is how many clients are let in at once; 0 is no limit.
	MaxSessions int
	// Version and Commit are those of the program.
	Version, Commit string
	// Pprof has the profiles of the Go runtime at /debug/pprof/.
	Pprof bool

	started atomic.Bool // for ever, once it has
	probing singleflight.Group
	probed  sync.Map // the last of each
	logins  loginHistograms
}

// Endpoint is one database, as it was configured, and those who know how it is.
type Endpoint struct {
	Name       string // host:port, for which tokens are signed
	Listen     string // where clients connect
	Via        string // what is dialled instead; may be empty
	Region     string
	Kind       string // of the name: cluster, instance and so on
	User       string // whom all log in as; empty: as the client says
	Profile    string // of the credentials; may be empty
	AssumeRole string // with which it is signed; may be empty

	Database Database
	Signer   Signer // endpoints may share one
	Tokens   Tokens
}

// Database is a database and its clients, as a *proxy.Proxy knows them.
type Database interface {
	Counts() proxy.Counts
	Sessions() []proxy.SessionInfo
	Failures() []stats.Failure
	Logins() []stats.LoginTimings
	Users() []string
	Server() stats.ServerInfo
	Probe(ctx context.Context) error
}

// Signer is who signs: an *auth.Identity.
type Signer interface {
	Status() auth.IdentityStatus
	Ready(ctx context.Context) error
}

// Tokens are those for one endpoint: an *auth.Tokens.
type Tokens interface {
	Counts() auth.TokenCounts
	Expiries() map[string]time.Time
}

// Handler answers all requests, once clients are served. Who calls it makes the listener and the http.Server.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /startupz", s.startupz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", s.metrics())
	mux.HandleFunc("GET /{$}", s.status(time.Now()))
	if s.Shutdown != nil {
		mux.HandleFunc("POST /shutdown", onLoopback(s.shutdown, "send the process a SIGTERM"))
	}
	if s.Pprof {
		profiles(mux)
	}
	return guard(mux)
}

func (s *Server) isDraining() bool { return s.Draining != nil && s.Draining() }

// text is an answer in plain words.
func writeText(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body + "\n"))
}
