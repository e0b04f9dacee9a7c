// Package server serves databases to clients until it is drained: a proxy for each endpoint, their
// listeners, and the admin server.
package server

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/admin"
	"github.com/iamproxy/iamproxy/internal/console"
	"github.com/iamproxy/iamproxy/internal/endpoint"
	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/tls"
)

// Server serves the endpoints of its Config. Call Configure, Start, Drain and Close in this order.
type Server struct {
	Config
	Version, Commit string
	Log             *zap.Logger
	// Shutdown is called to request a drain. Draining reports whether it has been requested.
	Shutdown func()
	Draining func() bool

	// Configure sets the credentials, and by endpoint what signs and what forwards, or nil.
	Identities endpoint.Identities
	Signers    []console.Signer
	Forwards   []endpoint.Forward

	proxies     []*proxy.Proxy // by endpoint
	listeners   listeners
	sessionIDs  atomic.Uint64
	adminServer admin.Server
	failed      chan error
	stopAdmin   func()
	stopForward func()
}

// Configure reads the files that the flags name, and creates a proxy for each endpoint.
func (s *Server) Configure(ctx context.Context) error {
	s.Identities.Log = s.Log
	s.adminServer.Version, s.adminServer.Commit, s.adminServer.Pprof = s.Version, s.Commit, s.Pprof
	s.adminServer.Shutdown, s.adminServer.Draining = s.Shutdown, s.Draining
	roots, err := tls.LoadRoots(s.CAFile)
	if err != nil {
		return ConfigError{fmt.Errorf("--ca-file: %w", err)}
	}
	clientTLS, err := s.clientTLS()
	if err != nil {
		return err
	}
	clientAuth, err := s.clientAuth()
	if err != nil {
		return err
	}
	budget := s.budget()
	limit := s.sessionLimit(budget.Sessions)
	if limit != nil {
		s.adminServer.MaxSessions, s.adminServer.LimitHint = limit.Max, limit.Hint
	}
	poolSize := s.poolSize()
	if budget.Pool < poolSize {
		s.Log.Warn("not enough file descriptors for --pool", zap.Int("pool", poolSize), zap.Int("possible", budget.Pool), zap.String("hint", openFilesHint()))
	}
	for _, e := range s.Endpoints {
		identity, err := s.Identities.Load(ctx, e)
		if err != nil {
			return ConfigError{err}
		}
		forward, err := e.Forward(ctx, &s.Identities, s.Log)
		if err != nil {
			return ConfigError{err}
		}
		tokens := e.Tokens(identity)
		p := &proxy.Proxy{
			Upstream:        e.Dialer(forward, roots),
			ClientTLS:       clientTLS,
			ClientAuth:      clientAuth,
			Tokens:          tokens,
			User:            e.User,
			Database:        e.Database,
			RequireWritable: e.NeedsWriter(),
			ConnectTimeout:  s.ConnectTimeout,
			ConnectRate:     s.ConnectRate,
			Fleet:           s.Fleet,
			Limit:           limit,
			SessionIDs:      &s.sessionIDs,
			MaxPending:      budget.Pending,
			AllowFrom:       s.AllowFrom,
			CheckCommand:    func(user, database string) string { return e.CheckCommand(user, database, s.CAFile) },
			Observe:         s.adminServer.Observe(e.Address()),
			Log:             s.Log,
		}
		if wanted := e.PoolSize(); wanted > 0 {
			p.MaxIdleConns = max(1, wanted*budget.Pool/poolSize)
		}
		if s.AllowUser != nil {
			p.AllowPeer = s.AllowUser.Check
		}
		channel, _ := forward.(admin.Channel) // nil for another via
		s.Forwards = append(s.Forwards, forward)
		s.proxies = append(s.proxies, p)
		s.Signers = append(s.Signers, identity)
		s.adminServer.Endpoints = append(s.adminServer.Endpoints, admin.Endpoint{
			Name:         e.Address(),
			Via:          e.ViaName(),
			Region:       e.Region,
			Kind:         string(e.Name.Kind),
			User:         e.User,
			DatabaseName: e.Database,
			Profile:      e.Signer.Profile,
			AssumeRole:   e.Signer.AssumeRole,
			Database:     p,
			Signer:       identity,
			Tokens:       tokens,
			Channel:      channel,
			CheckCommand: p.CheckCommand,
		})
	}
	return nil
}

// Start opens the listeners, and accepts clients in the background. ctx bounds Start alone. After an
// error, call Close.
func (s *Server) Start(ctx context.Context) (err error) {
	s.stopForward = endpoint.StartAll(s.Forwards...)
	if s.listeners, err = s.listen(ctx); err != nil {
		return err
	}
	s.serve()
	s.stopAdmin = s.adminServer.Serve(s.listeners.admin, s.listeners.status, s.budget().Admin, s.Log)
	return nil
}

// Failed returns the error of a listener that accepts no more clients.
func (s *Server) Failed() <-chan error { return s.failed }

// ListenAddrs returns the addresses of the listeners of an endpoint, after Start.
func (s *Server) ListenAddrs(endpoint int) (addrs []net.Addr) {
	for _, listener := range s.listeners.endpoints[endpoint].listeners {
		addrs = append(addrs, listener.Addr())
	}
	return addrs
}

// OpenSessions returns the number of sessions, those that log in included.
func (s *Server) OpenSessions() int {
	number, _ := s.sessions()
	return number
}

// Close stops what Drain leaves: the admin server and the port forwards.
func (s *Server) Close() {
	for _, stop := range []func(){s.stopAdmin, s.stopForward} { // sessions use the forwards
		if stop != nil {
			stop()
		}
	}
}
