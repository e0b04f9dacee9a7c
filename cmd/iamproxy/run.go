package main

import (
	"context"
	"math"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/tls"
)

// drainTime is how long sessions may go on after a signal to end.
const drainTime = 25 * time.Second

// Run serves until a signal, and then drains.
func (c *runCommand) Run(ctx context.Context, std streams) error {
	stopping, release := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer release()
	// Whoever reads the log may go away; the sessions stay.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	endpoints, err := c.endpoints(ctx)
	if err != nil {
		return err
	}
	socketMode, err := parseSocketMode(c.SocketMode)
	if err != nil {
		return err
	}
	log := c.logger(std)
	signers := &identities{log: log}
	proxies, err := c.proxies(ctx, endpoints, signers, log)
	if err != nil {
		return err
	}
	listeners, err := listen(stopping, endpoints, socketMode)
	switch {
	case err != nil && stopping.Err() != nil:
		return nil // told to end before there was anything to drain
	case err != nil:
		return err
	}
	failed := make(chan error, len(proxies))
	for i, p := range proxies {
		go serve(p, listeners[i], failed)
		endpoints[i].describe(log, p, listeners[i])
	}
	go signers.announce(stopping)
	go tidy(stopping)
	select {
	case err = <-failed:
		log.Error("cannot accept clients any more", zap.Error(err))
	case <-stopping.Done():
	}
	log.Info("draining; a second signal ends it at once", zap.Duration("at_most", drainTime))
	cut := drain(ctx, proxies)
	log.Info("stopped", zap.Int64("sessions_cut", cut), zap.Any("cancel_requests", cancels(proxies)))
	return err
}

// describe writes down what is served where.
func (e endpoint) describe(log *zap.Logger, p *proxy.Proxy, listener net.Listener) {
	log.Info("listening",
		zap.Stringer("listen", listener.Addr()),
		zap.String("endpoint", p.Endpoint), zap.String("region", e.region), zap.String("kind", string(e.name.Kind)),
		zap.String("via", e.viaName()), zap.Bool("writer_only", p.Writer), zap.Int("pool", p.Pool))
	if named := e.name.Region; named != "" && named != e.region {
		log.Warn("tokens are signed for another region than the endpoint's name has; the database will refuse them if that is a mistake",
			zap.String("endpoint", p.Endpoint), zap.String("region", e.region), zap.String("named", named))
	}
}

// cancels is what became of all cancel requests.
func cancels(proxies []*proxy.Proxy) (all proxy.CancelCounts) {
	for _, p := range proxies {
		c := p.Cancels()
		all.Delivered += c.Delivered
		all.Rejected += c.Rejected
		all.Repeated += c.Repeated
		all.Failed += c.Failed
	}
	return all
}

// endpoints are those of the command line, with all that the flags say of them.
func (c *runCommand) endpoints(ctx context.Context) ([]endpoint, error) {
	flags := c.flags()
	flags.user, flags.database, flags.via, flags.target = c.User, c.Database, c.Via, c.Target
	flags.pool = strconv.Itoa(c.Pool)
	var endpoints []endpoint
	for _, text := range strings.Split(strings.Join(c.Endpoints, ","), ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		e, err := parseEndpoint(text)
		if err != nil {
			return nil, err
		}
		if e, err = e.resolve(ctx, flags); err != nil {
			return nil, err
		}
		endpoints = append(endpoints, e)
	}
	if len(endpoints) == 0 {
		return nil, usagef("no ENDPOINT given: the name of the database, as the RDS console or `aws rds describe-db-clusters` shows it")
	}
	switch {
	case c.ConnectTimeout <= 0:
		return nil, usagef("--connect-timeout %s: must be more than 0", c.ConnectTimeout)
	case c.ConnectRate < 0 || math.IsNaN(c.ConnectRate):
		return nil, usagef("--connect-rate %v: must be 0, for no limit, or more", c.ConnectRate)
	}
	return endpoints, listenAddresses(endpoints, c.Listen)
}

// proxies wires the parts: one proxy for each endpoint.
func (c *runCommand) proxies(ctx context.Context, endpoints []endpoint, signers *identities, log *zap.Logger) ([]*proxy.Proxy, error) {
	roots, err := tls.Roots(c.CAFile)
	if err != nil {
		return nil, usagef("--ca-file: %w", err)
	}
	forClients, err := clientTLS(c.ListenTLS, endpoints, log)
	if err != nil {
		return nil, err
	}
	var proxies []*proxy.Proxy
	for _, e := range endpoints {
		identity, err := signers.of(ctx, e)
		if err != nil {
			return nil, err
		}
		proxies = append(proxies, &proxy.Proxy{
			Endpoint:       e.address(),
			Via:            e.via,
			SOCKS:          e.socks,
			TLS:            tls.Upstream(e.host, roots),
			DirectTLS:      e.sslnegotiation == "direct",
			ClientTLS:      forClients,
			Tokens:         e.tokens(identity),
			User:           e.user,
			Database:       e.database,
			Writer:         e.wantsWriter(),
			ConnectTimeout: c.ConnectTimeout,
			ConnectRate:    c.ConnectRate,
			Pool:           e.poolSize(),
			Log:            log,
		})
	}
	return proxies, nil
}

// tokens are those for the endpoint.
func (e endpoint) tokens(identity *auth.Identity) *auth.Tokens {
	return &auth.Tokens{Endpoint: e.address(), Region: e.region, Kind: e.name.Kind, Identity: identity}
}

func serve(p *proxy.Proxy, listener net.Listener, failed chan<- error) {
	if err := p.Serve(listener); err != nil {
		failed <- err
	}
}

// drain lets sessions end by themselves until the time is up or another signal
// comes, and returns how many it cut short.
func drain(ctx context.Context, proxies []*proxy.Proxy) int64 {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	ctx, release := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer release()
	var all sync.WaitGroup
	var cut atomic.Int64
	for _, p := range proxies {
		all.Go(func() { cut.Add(int64(p.Shutdown(ctx))) })
	}
	all.Wait()
	return cut.Load()
}

// logger writes JSON, or lines for people on a terminal.
func (c *runCommand) logger(std streams) *zap.Logger {
	level, _ := zapcore.ParseLevel(c.LogLevel) // kong has checked it
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.ISO8601TimeEncoder
	config.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(config)
	if c.LogFormat == "console" || c.LogFormat == "" && isTerminal(std.err) {
		encoder = zapcore.NewConsoleEncoder(config)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(std.err)), level))
}
