package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// The implementations outside tests.
var (
	_ Database = (*proxy.Proxy)(nil)
	_ Signer   = (*auth.Identity)(nil)
	_ Tokens   = (*auth.Tokens)(nil)
	_ Channel  = (*ssm.Forward)(nil)
)

type fakeDatabase struct {
	counts   proxy.Counts
	sessions []proxy.SessionInfo
	failures []stats.Failure
	logins   []stats.LoginTimings
	users    []string
	server   stats.ServerInfo
	probe    func(context.Context) error
}

func (d *fakeDatabase) Counts() proxy.Counts          { return d.counts }
func (d *fakeDatabase) Sessions() []proxy.SessionInfo { return d.sessions }
func (d *fakeDatabase) Failures() []stats.Failure     { return d.failures }
func (d *fakeDatabase) Logins() []stats.LoginTimings  { return d.logins }
func (d *fakeDatabase) Users() []string               { return d.users }
func (d *fakeDatabase) Server() stats.ServerInfo      { return d.server }

func (d *fakeDatabase) Probe(ctx context.Context) error {
	if d.probe == nil {
		return nil
	}
	return d.probe(ctx)
}

type fakeSigner struct {
	status auth.IdentityStatus
	ready  func(context.Context) error
	checks atomic.Int32
}

func (s *fakeSigner) Status() auth.IdentityStatus { return s.status }

func (s *fakeSigner) Ready(ctx context.Context) error {
	s.checks.Add(1)
	if s.ready == nil {
		return nil
	}
	return s.ready(ctx)
}

type fakeTokens struct {
	counts   auth.TokenCounts
	expiries map[string]time.Time
}

func (t *fakeTokens) Counts() auth.TokenCounts       { return t.counts }
func (t *fakeTokens) Expiries() map[string]time.Time { return t.expiries }

type fakeChannel ssm.Status

func (c fakeChannel) Status() ssm.Status { return ssm.Status(c) }

const clusterName = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com:5432"

// endpoint returns an endpoint without any events.
func endpoint() Endpoint {
	return Endpoint{
		Name: clusterName, Listen: "127.0.0.1:5432", Region: "eu-west-1", Kind: "cluster",
		Database: &fakeDatabase{}, Signer: &fakeSigner{}, Tokens: &fakeTokens{},
	}
}

// serve serves s on loopback and returns its URL.
func serve(t *testing.T, s *Server) string {
	t.Helper()
	s.PageOnAdmin = true
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return server.URL
}

// get returns the response to a request from loopback. It enables the status page.
func get(s *Server, path string) *httptest.ResponseRecorder {
	if !s.PageOnAdmin {
		s.PageOnAdmin = true
	}
	return getFrom(s.Handler(), path)
}

func getFrom(handler http.Handler, path string) *httptest.ResponseRecorder {
	response := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "http://localhost:9090"+path, nil)
	r.RemoteAddr = "127.0.0.1:40000"
	handler.ServeHTTP(response, withLocalAddr(r, "127.0.0.1"))
	return response
}
