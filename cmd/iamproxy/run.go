package main

import (
	"context"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
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

	endpoints, err := c.endpoints()
	if err != nil {
		return err
	}
	socketMode, err := parseSocketMode(c.SocketMode)
	if err != nil {
		return err
	}
	log := c.logger(std)
	proxies, err := c.proxies(ctx, endpoints, log)
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
		log.Info("listening",
			zap.Stringer("listen", listeners[i].Addr()),
			zap.String("endpoint", p.Endpoint), zap.String("region", endpoints[i].region),
			zap.String("via", p.Via))
		if named, err := auth.Region(endpoints[i].host); err == nil && named != endpoints[i].region {
			log.Warn("tokens are signed for another region than the endpoint's name has; the database will refuse them if that is a mistake",
				zap.String("endpoint", p.Endpoint), zap.String("region", endpoints[i].region), zap.String("named", named))
		}
	}
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
func (c *runCommand) endpoints() ([]endpoint, error) {
	flags := endpoint{user: c.User, database: c.Database, region: c.Region, via: c.Via}
	var endpoints []endpoint
	for _, text := range strings.Split(strings.Join(c.Endpoints, ","), ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		e, err := parseEndpoint(text)
		if err != nil {
			return nil, err
		}
		if e, err = e.resolve(flags); err != nil {
			return nil, err
		}
		endpoints = append(endpoints, e)
	}
	if len(endpoints) == 0 {
		return nil, usagef("no ENDPOINT given: the name of the database, as the RDS console or `aws rds describe-db-clusters` shows it")
	}
	if c.ConnectTimeout <= 0 {
		return nil, usagef("--connect-timeout %s: must be more than 0", c.ConnectTimeout)
	}
	return endpoints, listenAddresses(endpoints, c.Listen)
}

// proxies wires the parts: one proxy for each endpoint.
func (c *runCommand) proxies(ctx context.Context, endpoints []endpoint, log *zap.Logger) ([]*proxy.Proxy, error) {
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
		credentials, err := loadCredentials(ctx, c.Profile, e.region)
		if err != nil {
			return nil, err
		}
		proxies = append(proxies, &proxy.Proxy{
			Endpoint:       e.address(),
			Via:            e.via,
			TLS:            tls.Upstream(e.host, roots),
			DirectTLS:      e.sslnegotiation == "direct",
			ClientTLS:      forClients,
			Tokens:         &auth.Tokens{Endpoint: e.address(), Region: e.region, Credentials: credentials, Log: log},
			User:           e.user,
			Database:       e.database,
			ConnectTimeout: c.ConnectTimeout,
			Log:            log,
		})
	}
	return proxies, nil
}

func loadCredentials(ctx context.Context, profile, region string) (aws.CredentialsProvider, error) {
	credentials, err := auth.Credentials(ctx, profile, region)
	if err != nil {
		return nil, usagef("AWS configuration: %w", err)
	}
	return credentials, nil
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
