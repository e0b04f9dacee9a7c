package main

import (
	"context"
	cryptotls "crypto/tls"
	"fmt"
	"net"
	"os"
	"slices"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/admin"
	"github.com/iamproxy/iamproxy/internal/console"
	"github.com/iamproxy/iamproxy/internal/endpoint"
	"github.com/iamproxy/iamproxy/internal/limits"
	"github.com/iamproxy/iamproxy/internal/listen"
	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/tls"
)

// server is what run starts: a proxy for each endpoint, and the admin server.
type server struct {
	*runCommand
	log         *zap.Logger
	identities  endpoint.Identities
	forwards    []endpoint.Forward // by endpoint, nil for none
	proxies     []*proxy.Proxy     // by endpoint
	sessionIDs  atomic.Uint64
	signers     []console.Signer // by endpoint
	adminServer admin.Server
}

// configure reads the files that the flags name, and creates a proxy for each endpoint.
func (s *server) configure(ctx context.Context) error {
	roots, err := tls.LoadRoots(s.CAFile)
	if err != nil {
		return usagef("--ca-file: %w", err)
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
		s.log.Warn("not enough file descriptors for --pool", zap.Int("pool", poolSize), zap.Int("possible", budget.Pool), zap.String("hint", openFilesHint()))
	}
	for _, e := range s.settings.endpoints {
		identity, err := s.identities.Load(ctx, e)
		if err != nil {
			return usageError{err}
		}
		forward, err := e.Forward(ctx, &s.identities, s.log)
		if err != nil {
			return usageError{err}
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
			Limit:           limit,
			SessionIDs:      &s.sessionIDs,
			MaxPending:      budget.Pending,
			AllowFrom:       s.settings.allowFrom,
			CheckCommand:    func(user, database string) string { return e.CheckCommand(user, database, s.CAFile) },
			Observe:         s.adminServer.Observe(e.Address()),
			Log:             s.log,
		}
		if wanted := e.PoolSize(); wanted > 0 {
			p.MaxIdleConns = max(1, wanted*budget.Pool/poolSize)
		}
		if s.settings.allowUser != nil {
			p.AllowPeer = s.settings.allowUser.Check
		}
		channel, _ := forward.(admin.Channel) // nil for another via
		s.forwards = append(s.forwards, forward)
		s.proxies = append(s.proxies, p)
		s.signers = append(s.signers, identity)
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

// clientTLS returns the TLS configuration for clients, or nil if TLS is off.
func (s *server) clientTLS() (*cryptotls.Config, error) {
	switch how := s.settings.tls; {
	case how.selfSigned:
		names := []string{"localhost", "127.0.0.1", "::1"}
		if host, err := os.Hostname(); err == nil {
			names = append(names, host)
		}
		for _, addr := range s.settings.addrs {
			if !addr.Unix && addr.Host != "" {
				names = append(names, addr.Host)
			}
		}
		certificate, err := tls.SelfSigned(names...)
		if err != nil {
			return nil, fmt.Errorf("--listen-tls: %w", err)
		}
		return tls.Downstream(func() *cryptotls.Certificate { return certificate }), nil
	case how.cert != "":
		files := &tls.Files{Cert: how.cert, Key: how.key, Log: s.log}
		if err := files.Load(); err != nil {
			return nil, usagef("--listen-tls: %w", err)
		}
		return tls.Downstream(files.Current), nil
	default:
		return nil, nil
	}
}

// clientAuth returns the requirements for clients. It reads the file of --client-ca.
func (s *server) clientAuth() (proxy.ClientAuth, error) {
	auth := proxy.ClientAuth{RequireTLS: s.RequireTLS}
	if s.ClientCA == "" {
		return auth, nil
	}
	roots := &tls.ClientCAs{File: s.ClientCA, Log: s.log}
	if err := roots.Load(); err != nil {
		return auth, usagef("--client-ca: %w", err)
	}
	auth.Roots = roots.Current
	switch s.ClientCertUser {
	case "cn":
		auth.Users = tls.CommonNames
	case "san":
		auth.Users = tls.AltNames
	}
	return auth, nil
}

// budget returns the assignment of file descriptors.
func (s *server) budget() limits.Budget {
	return limits.Allocate(limits.OpenFiles(), len(s.settings.endpoints), s.poolSize())
}

// poolSize returns the number of idle connections requested by all endpoints.
func (s *server) poolSize() (n int) {
	for _, e := range s.settings.endpoints {
		n += e.PoolSize()
	}
	return n
}

func openFilesHint() string {
	return fmt.Sprintf("The process is limited to %d open files. Raise the limit (ulimit -n, LimitNOFILE=, ulimits: nofile).", limits.OpenFiles())
}

// sessionLimit returns the limit of --max-sessions or of file descriptors, whichever is lower.
// It is nil if neither limits the sessions; possible is 0 if descriptors do not.
func (s *server) sessionLimit(possible int) *proxy.ConnLimit {
	switch {
	case possible > 0 && (s.MaxSessions == 0 || possible < s.MaxSessions):
		hint := openFilesHint()
		if s.MaxSessions > 0 {
			s.log.Warn("not enough file descriptors for --max-sessions",
				zap.Int("max_sessions", s.MaxSessions), zap.Int("possible", possible), zap.String("hint", hint))
		}
		return &proxy.ConnLimit{Max: possible, Hint: hint}
	case s.MaxSessions > 0:
		return &proxy.ConnLimit{Max: s.MaxSessions, Hint: "Close sessions that are not in use, or raise --max-sessions."}
	}
	return nil
}

// listeners are all listeners of the process.
type listeners struct {
	endpoints []endpointListener
	admin     net.Listener // nil for none
	status    net.Listener // of the status page; nil if it is at admin, or off
}

// endpointListener has the listeners of one endpoint: two if it is localhost.
type endpointListener struct {
	listeners []net.Listener
	address   string // where clients connect
	activated bool   // passed by systemd; other processes may share it
}

// addresses returns the addresses of localhost for the log.
func (l endpointListener) addresses() zap.Field {
	var addresses []string
	for _, listener := range l.listeners {
		addresses = append(addresses, listener.Addr().String())
	}
	if slices.Contains(addresses, l.address) {
		return zap.Skip()
	}
	return zap.Strings("addresses", addresses)
}

func (l listeners) close() {
	for _, endpoint := range l.endpoints {
		for _, listener := range endpoint.listeners {
			listener.Close()
		}
	}
	for _, listener := range []net.Listener{l.admin, l.status} {
		if listener != nil {
			listener.Close()
		}
	}
}

// listen opens all listeners or none. It uses those that systemd has passed.
func (s *server) listen(ctx context.Context) (all listeners, err error) {
	activated, err := listen.ReceiveActivated()
	if err != nil {
		return all, usageError{err}
	}
	defer func() {
		if err != nil {
			activated.Close()
			all.close()
		}
	}()
	for i, addr := range s.settings.addrs {
		var listener endpointListener
		if listener.listeners, err = activated.TakeAll(addr); err != nil {
			return all, usageError{err}
		}
		if listener.activated = len(listener.listeners) > 0; !listener.activated {
			if listener.listeners, err = listen.Listen(ctx, addr, s.settings.socketMode); err != nil {
				return all, fmt.Errorf("could not listen on %s for %s: %w", addr, s.settings.endpoints[i].Host, err)
			}
		}
		listener.address = addr.Name(listener.listeners)
		all.endpoints = append(all.endpoints, listener)
	}
	if err := s.listenAdmin(ctx, activated, &all); err != nil {
		return all, err
	}
	if err := activated.Unclaimed(); err != nil {
		return all, usageError{err}
	}
	return all, nil
}

// listenAdmin opens the listeners of the admin server and of the status page. There is no admin
// server if --admin is not given and the default port is in use.
func (s *server) listenAdmin(ctx context.Context, activated *listen.Activated, all *listeners) (err error) {
	address, status := s.settings.admin, s.settings.status
	if address != "" {
		all.admin, err = admin.Listen(ctx, activated, "--admin", address)
		if err != nil && s.Admin == "" && status != address {
			cause, without := err.Error(), "health checks and metrics"
			if listen.IsInUse(err) {
				cause = address + " is in use"
			}
			if s.Status == "" {
				without = "health checks, metrics and status page"
			}
			s.log.Warn(cause + ": running without " + without + ". `iamproxy wait` and `iamproxy shutdown` do not reach this process. " +
				"Choose another address with --admin HOST:PORT, or --admin off")
			err = nil
		}
	}
	if err == nil && status != "" && status != address {
		all.status, err = admin.Listen(ctx, activated, "--status", status)
	}
	s.adminServer.PageOnAdmin = all.admin != nil && (status == address || s.Status == "" && listen.IsLoopback(all.admin.Addr()))
	return err
}

// serve accepts clients in the background. It sends the error of a listener to failed.
func (s *server) serve(all listeners, failed chan<- error) {
	for i, p := range s.proxies {
		listener := all.endpoints[i]
		p.HandOff = listener.activated
		p.Listen = listener.address
		s.adminServer.Endpoints[i].Listen = listener.address
		s.logListener(s.settings.endpoints[i], p, listener)
		for _, listener := range listener.listeners {
			go func() {
				if err := p.Serve(listener); err != nil {
					failed <- err
				}
			}()
		}
	}
}

func (s *server) logListener(e endpoint.Endpoint, p *proxy.Proxy, listener endpointListener) {
	s.log.Info("listening",
		zap.String("listen", listener.address), listener.addresses(),
		zap.String("endpoint", p.Upstream.Endpoint), zap.String("region", e.Region), logging.OptionalString("kind", string(e.Name.Kind)),
		logging.OptionalString("via", e.ViaName()), zap.Bool("writer_only", p.RequireWritable), zap.Int("pool", p.MaxIdleConns),
		zap.Bool("socket_passed", listener.activated),
		logging.TextForConsole(console.EndpointText(e, listener.address)))
	s.warnUnencrypted(p, listener)
	if named := e.Name.Region; named != "" && named != e.Region {
		s.log.Warn("tokens are signed for another region than the one in the endpoint's name; remove --region unless it is right",
			zap.String("endpoint", p.Upstream.Endpoint), zap.String("region", e.Region), zap.String("named", named))
	}
}

// warnUnencrypted logs that clients of other hosts can connect without TLS.
func (s *server) warnUnencrypted(p *proxy.Proxy, listener endpointListener) {
	at := zap.String("listen", listener.address)
	switch {
	case listen.IsLoopback(listener.listeners[0].Addr()):
	case p.ClientTLS == nil:
		s.log.Warn("clients on the network send queries and data unencrypted; set --listen-tls", at)
	case !p.ClientAuth.RequireTLS && p.ClientAuth.Roots == nil:
		s.log.Info("clients on the network may connect without TLS; set --require-tls", at)
	}
}
