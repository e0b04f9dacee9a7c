// Package admin serves health, metrics and the status page over HTTP. It sends no requests to
// AWS, but for credentials that a health check needs.
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

// Server is the admin server. All fields are optional. They must not change after the first
// call of Handler; Observe may be called before they are set.
type Server struct {
	// Endpoints are the databases that are served.
	Endpoints []Endpoint
	// Draining reports whether iamproxy is shutting down. If nil, it never is.
	Draining func() bool
	// Shutdown starts the drain and does not wait for its end. It may be called more
	// than once. If nil, there is no /shutdown.
	Shutdown func()
	// MaxSessions is the maximum number of sessions; 0 is no limit.
	MaxSessions int
	// LimitHint is how to admit more sessions than MaxSessions.
	LimitHint string
	// Version and Commit identify the build.
	Version, Commit string
	// Pprof enables the profiles of the Go runtime at /debug/pprof/.
	Pprof bool
	// PageOnAdmin reports whether Handler serves the status page at /.
	PageOnAdmin bool
	// PageURL is the URL of the status page; empty if it is off. Serve sets it.
	PageURL string

	started    atomic.Bool // result of /startupz; never reset
	probes     singleflight.Group
	lastProbes sync.Map // probeResult by index of the endpoint
	logins     loginHistograms
}

// Endpoint is the configuration of an endpoint, and the sources of its status.
type Endpoint struct {
	Name   string // host:port, for which tokens are signed
	Listen string // listen address
	Via    string // address that is dialed instead of Name; may be empty
	Region string
	Kind   string // of endpoint, such as cluster or instance
	User   string // database user of all logins; empty: the client's

	DatabaseName string // database of all logins; empty: the client's

	Profile    string // of the AWS credentials; may be empty
	AssumeRole string // may be empty

	Database Database
	Signer   Signer // endpoints may share one
	Tokens   Tokens
	Channel  Channel // nil if Via is not Session Manager

	// CheckCommand returns the command line that diagnoses a failed login of a user. It may
	// be nil.
	CheckCommand func(user, database string) string
}

// checkCommand returns the command line that checks the endpoint, for any user.
func (e Endpoint) checkCommand() string {
	if e.CheckCommand == nil {
		return ""
	}
	return e.CheckCommand("", "")
}

// label returns the name of the endpoint, and where it listens: endpoints may have the same name.
func (e Endpoint) label() string { return e.Name + " (on " + e.Listen + ")" }

// Database is the part of *proxy.Proxy that package admin uses.
type Database interface {
	Counts() proxy.Counts
	Sessions() []proxy.SessionInfo
	Failures() []stats.Failure
	Logins() []stats.LoginTimings
	Users() []string
	Server() stats.ServerInfo
	Probe(ctx context.Context) error
}

// Signer is the part of *auth.Identity that package admin uses.
type Signer interface {
	Status() auth.IdentityStatus
	Ready(ctx context.Context) error
}

// Tokens is the part of *auth.Tokens that package admin uses.
type Tokens interface {
	Counts() auth.TokenCounts
	Expiries() map[string]time.Time
}

// Handler returns the handler of --admin. It must be called after the start of the listeners:
// /livez responds with 200 from then on.
func (s *Server) Handler() http.Handler {
	mux := s.newMux(s.PageOnAdmin)
	if !s.PageOnAdmin {
		mux.HandleFunc("GET /{$}", s.noPage)
	}
	if s.Shutdown != nil {
		mux.HandleFunc("POST /shutdown", loopbackOnly(s.shutdown, "send the process a SIGTERM"))
	}
	if s.Pprof {
		handleProfiles(mux)
	}
	return guard(mux)
}

// PageHandler returns the handler of a listener for the status page. It also serves what the
// page links to.
func (s *Server) PageHandler() http.Handler { return guard(s.newMux(true)) }

// newMux returns the handler of health and metrics. With page, it serves the status page, and
// health has all details.
func (s *Server) newMux(page bool) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /startupz", s.startupz(page))
	mux.HandleFunc("GET /readyz", s.readyz(page))
	mux.Handle("GET /metrics", s.metrics())
	if page {
		mux.HandleFunc("GET /{$}", s.status(time.Now()))
	}
	return mux
}

// noPage responds with the address of the status page. The page names users, clients and roles,
// so that --admin serves it on loopback only.
func (s *Server) noPage(w http.ResponseWriter, _ *http.Request) {
	where := "--status 127.0.0.1:9091 serves it on loopback, and --status with the address of --admin serves it here"
	if s.PageURL != "" {
		where = "it is at " + s.PageURL
	}
	writeText(w, http.StatusNotFound, "no status page at this address: "+where+"; health is at /livez, /startupz and /readyz, metrics are at /metrics")
}

func (s *Server) isDraining() bool { return s.Draining != nil && s.Draining() }

func writeText(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body + "\n"))
}
