package server

import (
	"context"
	"fmt"
	"net"
	"slices"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/admin"
	"github.com/iamproxy/iamproxy/internal/console"
	"github.com/iamproxy/iamproxy/internal/endpoint"
	"github.com/iamproxy/iamproxy/internal/listen"
	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/proxy"
)

// listeners are all listeners of the process.
type listeners struct {
	endpoints []endpointListener
	admin     net.Listener // nil for none
	status    net.Listener // of the status page; nil if it is at admin, or off
}

// endpointListener has the listeners of one endpoint. An address has two if it is localhost.
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
func (s *Server) listen(ctx context.Context) (all listeners, err error) {
	activated, err := listen.ReceiveActivated()
	if err != nil {
		return all, ConfigError{err}
	}
	defer func() {
		if err != nil {
			activated.Close()
			all.close()
		}
	}()
	for i, addrs := range s.Addrs {
		all.endpoints = append(all.endpoints, endpointListener{})
		listener := &all.endpoints[i]
		for _, addr := range addrs {
			opened, err := activated.TakeAll(addr)
			if err != nil {
				return all, ConfigError{err}
			}
			if len(opened) > 0 {
				listener.activated = true
			} else if opened, err = listen.Listen(ctx, addr, s.SocketMode); err != nil {
				return all, fmt.Errorf("could not listen on %s for %s: %w", addr, s.Endpoints[i].Host, err)
			}
			if listener.address == "" {
				listener.address = addr.Name(opened)
			}
			listener.listeners = append(listener.listeners, opened...)
		}
	}
	if err := s.listenAdmin(ctx, activated, &all); err != nil {
		return all, err
	}
	if err := activated.Unclaimed(); err != nil {
		return all, ConfigError{err}
	}
	return all, nil
}

// listenAdmin opens the listeners of the admin server and of the status page. There is no admin
// server if --admin is not given and the default port is in use.
func (s *Server) listenAdmin(ctx context.Context, activated *listen.Activated, all *listeners) (err error) {
	address, status := s.Admin, s.Status
	if address != "" {
		all.admin, err = admin.Listen(ctx, activated, "--admin", address)
		if err != nil && s.DefaultAdmin && status != address {
			cause, without := err.Error(), "health checks and metrics"
			if listen.IsInUse(err) {
				cause = address + " is in use"
			}
			if s.DefaultStatus {
				without = "health checks, metrics and status page"
			}
			s.Log.Warn(cause + ": running without " + without + ". `iamproxy wait` and `iamproxy shutdown` do not reach this process. " +
				"Choose another address with --admin HOST:PORT, or --admin off")
			err = nil
		}
	}
	if err == nil && status != "" && status != address {
		all.status, err = admin.Listen(ctx, activated, "--status", status)
	}
	s.adminServer.PageOnAdmin = all.admin != nil && (status == address || s.DefaultStatus && listen.IsLoopback(all.admin.Addr()))
	return err
}

// serve accepts clients in the background. It sends the error of a listener to s.failed.
func (s *Server) serve() {
	n := 0
	for _, listener := range s.listeners.endpoints {
		n += len(listener.listeners)
	}
	s.failed = make(chan error, n)
	for i, p := range s.proxies {
		listener := s.listeners.endpoints[i]
		p.HandOff = listener.activated
		p.Listen = listener.address
		s.adminServer.Endpoints[i].Listen = listener.address
		s.logListener(s.Endpoints[i], p, listener)
		for _, listener := range listener.listeners {
			go func() {
				if err := p.Serve(listener); err != nil {
					s.failed <- err
				}
			}()
		}
	}
}

func (s *Server) logListener(e endpoint.Endpoint, p *proxy.Proxy, listener endpointListener) {
	s.Log.Info("listening",
		zap.String("listen", listener.address), listener.addresses(),
		zap.String("endpoint", p.Upstream.Endpoint), zap.String("region", e.Region), logging.OptionalString("kind", string(e.Name.Kind)),
		logging.OptionalString("via", e.ViaName()), zap.Bool("writer_only", p.RequireWritable), zap.Int("pool", p.MaxIdleConns),
		zap.Bool("socket_passed", listener.activated),
		logging.TextForConsole(console.EndpointText(e, listener.address)))
	s.warnUnencrypted(p, listener)
	if named := e.Name.Region; named != "" && named != e.Region {
		s.Log.Warn("tokens are signed for another region than the one in the endpoint's name; remove --region unless it is right",
			zap.String("endpoint", p.Upstream.Endpoint), zap.String("region", e.Region), zap.String("named", named))
	}
}

// warnUnencrypted logs that clients of other hosts can connect without TLS.
func (s *Server) warnUnencrypted(p *proxy.Proxy, listener endpointListener) {
	at := zap.String("listen", listener.address)
	switch {
	case listen.IsLoopback(listener.listeners[0].Addr()):
	case p.ClientTLS == nil:
		s.Log.Warn("clients on the network send queries and data unencrypted; set --listen-tls", at)
	case !p.ClientAuth.RequireTLS && p.ClientAuth.Roots == nil:
		s.Log.Info("clients on the network may connect without TLS; set --require-tls", at)
	}
}
