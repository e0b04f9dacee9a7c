package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"math"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/admin"
	"github.com/iamproxy/iamproxy/internal/limits"
	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/tls"
)

// settings are the command line's, as far as they have to be read.
type settings struct {
	endpoints  []endpoint
	socketMode os.FileMode
	allowFrom  []netip.Prefix // nil: anywhere, since only this host reaches the listeners
	allowUser  users
}

func (c *runCommand) settings(ctx context.Context) (s settings, err error) {
	if s.endpoints, err = c.endpoints(ctx); err != nil {
		return s, err
	}
	if s.socketMode, err = parseSocketMode(c.SocketMode); err != nil {
		return s, err
	}
	if s.allowFrom, err = parseAllowFrom(c.AllowFrom); err != nil {
		return s, err
	}
	if s.allowUser, err = parseAllowUser(c.AllowUser); err != nil {
		return s, err
	}
	for _, e := range s.endpoints {
		if err := cmp.Or(e.listening.guarded(s.allowFrom), s.allowUser.knowable(e.listening)); err != nil {
			return s, err
		}
	}
	switch {
	case c.ConnectTimeout <= 0:
		return s, usagef("--connect-timeout %s: must be more than 0", c.ConnectTimeout)
	case c.ConnectRate < 0 || math.IsNaN(c.ConnectRate):
		return s, usagef("--connect-rate %v: must be 0, for no limit, or more", c.ConnectRate)
	case c.MaxSessions < 0:
		return s, usagef("--max-sessions %d: must be 0, for no limit, or more", c.MaxSessions)
	case c.DrainMin < 0 || c.DrainMax < c.DrainMin:
		return s, usagef("--drain-min %s and --drain-max %s: the second must not be less than the first, nor the first less than 0", c.DrainMin, c.DrainMax)
	}
	return s, nil
}

// parseAllowFrom reads networks, and single addresses.
func parseAllowFrom(texts []string) (prefixes []netip.Prefix, err error) {
	for _, text := range texts {
		text = strings.TrimSpace(text)
		prefix, err := netip.ParsePrefix(text)
		if address, failed := netip.ParseAddr(text); failed == nil && address.Zone() == "" {
			prefix, err = netip.PrefixFrom(address, address.BitLen()), nil
		}
		switch {
		case err != nil:
			return nil, usagef("--allow-from %q: neither an address nor a network such as 10.0.0.0/16", text)
		case prefix != prefix.Masked():
			return nil, usagef("--allow-from %s: there are bits set behind the first %d; %s is that network", text, prefix.Bits(), prefix.Masked())
		case prefix.Addr().Is4In6():
			return nil, usagef("--allow-from %s: write it as an IPv4 network", text)
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, nil
}

// endpoints are those of the command line, with all that the flags say of them.
func (c *runCommand) endpoints(ctx context.Context) ([]endpoint, error) {
	flags := c.flags()
	flags.user, flags.database, flags.via, flags.target = c.User, c.Database, c.Via, c.Target
	flags.pool = strconv.Itoa(c.Pool)
	endpoints, err := parseEndpoints(ctx, c.Endpoints, flags)
	if err != nil {
		return nil, err
	}
	if len(endpoints) == 0 {
		return nil, usagef("no ENDPOINT given: the name of the database, as the RDS console or `aws rds describe-db-clusters` shows it")
	}
	return endpoints, listenAddresses(endpoints, c.Listen)
}

// proxies wires the parts: one proxy for each endpoint, and what the admin server is
// to know of it.
func (c *runCommand) proxies(ctx context.Context, s settings, signers *identities, ways *forwards, watched *admin.Server, log *zap.Logger) ([]*proxy.Proxy, error) {
	roots, err := tls.Roots(c.CAFile)
	if err != nil {
		return nil, usagef("--ca-file: %w", err)
	}
	forClients, err := clientTLS(c.ListenTLS, s.endpoints, log)
	if err != nil {
		return nil, err
	}
	budget := s.budget()
	limit := c.limit(budget.Sessions, log)
	if limit != nil {
		watched.MaxSessions = limit.Max
	}
	if wanted := s.pool(); budget.Pool < wanted {
		log.Warn("there are not enough file descriptors for --pool", zap.Int("pool", wanted), zap.Int("possible", budget.Pool), zap.String("hint", raiseLimit()))
	}
	var proxies []*proxy.Proxy
	for _, e := range s.endpoints {
		identity, err := signers.of(ctx, e)
		if err != nil {
			return nil, err
		}
		dial, err := ways.to(e)
		if err != nil {
			return nil, err
		}
		tokens := e.tokens(identity)
		p := e.server(dial, roots)
		p.ClientTLS = forClients
		p.Tokens = tokens
		p.User, p.Database = e.user, e.database
		p.Writer = e.wantsWriter()
		p.ConnectTimeout = c.ConnectTimeout
		p.ConnectRate = c.ConnectRate
		if wanted := e.poolSize(); wanted > 0 {
			p.Pool = max(1, wanted*budget.Pool/s.pool())
		}
		p.Limit = limit
		p.MaxArriving = budget.Pending
		p.AllowFrom = s.allowFrom
		if s.allowUser != nil {
			p.AllowPeer = s.allowUser.check
		}
		p.Observe = watched.Observe(e.address())
		p.Log = log
		proxies = append(proxies, p)
		watched.Endpoints = append(watched.Endpoints, admin.Endpoint{
			Name:       e.address(),
			Via:        e.viaName(),
			Region:     e.region,
			Kind:       string(e.name.Kind),
			User:       e.user,
			Profile:    e.signer.profile,
			AssumeRole: e.signer.assumeRole,
			Database:   p,
			Signer:     identity,
			Tokens:     tokens,
		})
	}
	return proxies, nil
}

// budget returns the assignment of file descriptors.
func (s settings) budget() limits.Budget {
	return limits.Allocate(limits.OpenFiles(), len(s.endpoints), s.pool())
}

// pool is how many idle connections are wanted, of all endpoints.
func (s settings) pool() (all int) {
	for _, e := range s.endpoints {
		all += e.poolSize()
	}
	return all
}

// raiseLimit is what to do for more.
func raiseLimit() string {
	return fmt.Sprintf("the process may have %d open files; raise that (ulimit -n, LimitNOFILE=, ulimits: nofile)", limits.OpenFiles())
}

// limit is how many clients are let in: as many as --max-sessions says, or as there are
// descriptors for. It is nil if neither bounds them.
func (c *runCommand) limit(possible int, log *zap.Logger) *proxy.Limit {
	switch {
	case possible > 0 && (c.MaxSessions == 0 || possible < c.MaxSessions):
		raise := raiseLimit()
		if c.MaxSessions > 0 {
			log.Warn("there are not enough file descriptors for --max-sessions",
				zap.Int("max_sessions", c.MaxSessions), zap.Int("possible", possible), zap.String("hint", raise))
		}
		return &proxy.Limit{Max: possible, Hint: raise}
	case c.MaxSessions > 0:
		return &proxy.Limit{Max: c.MaxSessions, Hint: "end sessions that nobody uses, or raise --max-sessions"}
	}
	return nil
}

// server is the way to the endpoint, for all that connect to it. If dial is nil, it is dialled.
func (e endpoint) server(dial dialer, roots *x509.CertPool) *proxy.Proxy {
	p := &proxy.Proxy{
		Endpoint:  e.address(),
		Via:       e.via,
		SOCKS:     e.socks,
		Dial:      dial,
		TLS:       tls.Upstream(e.host, roots),
		DirectTLS: e.sslnegotiation == "direct",
	}
	if e.tunnel != nil && e.tunnel.forward != nil {
		p.Said = e.tunnel.forward.Said
	}
	return p
}

// tokens are those for the endpoint.
func (e endpoint) tokens(identity *auth.Identity) *auth.Tokens {
	return &auth.Tokens{Endpoint: e.address(), Region: e.region, Kind: e.name.Kind, Identity: identity}
}
