package main

import (
	"context"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/iamproxy/iamproxy/internal/admin"
	"github.com/iamproxy/iamproxy/internal/hardening"
	"github.com/iamproxy/iamproxy/internal/limits"
	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/proxy"
)

// Run serves until it is told to end, and then drains.
func (c *runCommand) Run(ctx context.Context, std streams) error {
	hardening.DisableDumps()
	stopping, shutdown := context.WithCancel(ctx)
	defer shutdown()
	ending, end := context.WithCancel(ctx)
	defer end()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	go heed(ending, signals, shutdown, end)
	ended := make(chan struct{})
	defer close(ended)
	go giveUpAfter(stopping, c.DrainMax+stuckTime, ended)
	go giveUpAfter(ending, stuckTime, ended)
	// Whoever reads the log may go away; the sessions stay.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	settings, err := c.settings(ctx)
	if err != nil {
		return err
	}
	level, _ := zapcore.ParseLevel(c.LogLevel) // kong has checked it
	log, flush := logging.New(std.err, level, c.LogFormat == "console" || c.LogFormat == "" && isTerminal(std.err))
	defer flush()
	signers := &identities{log: log}
	watched := c.watched()
	watched.Shutdown, watched.Draining = shutdown, func() bool { return stopping.Err() != nil }
	ways := &forwards{log: log}
	defer ways.stop() // behind the drain: sessions go through them
	proxies, err := c.proxies(ctx, settings, signers, ways, watched, log)
	if err != nil {
		return err
	}
	listeners, err := c.listen(stopping, settings, log)
	switch {
	case err != nil && stopping.Err() != nil:
		return nil // told to end before there was anything to drain
	case err != nil:
		return err
	}
	failed := make(chan error, len(proxies))
	for i, p := range proxies {
		listener := listeners.endpoints[i]
		p.Succeeded = listener.passed
		watched.Endpoints[i].Listen = listener.Addr().String()
		settings.endpoints[i].describe(log, p, listener)
		go serve(p, listener, failed)
	}
	defer serveAdmin(watched, listeners.admin, settings.budget().Admin, log)()
	notify(log, daemon.SdNotifyReady)
	go signers.announce(stopping)
	go limits.ReleaseIdleMemory(stopping)
	select {
	case err = <-failed:
		log.Error("cannot accept clients any more", zap.Error(err))
		shutdown()
	case <-stopping.Done():
	}
	notify(log, daemon.SdNotifyStopping)
	c.drain(ending, proxies, log)
	return err
}

// heed does one thing for each signal, until ctx is done.
func heed(ctx context.Context, signals <-chan os.Signal, steps ...func()) {
	for _, step := range steps {
		select {
		case <-signals:
			step()
		case <-ctx.Done():
			return
		}
	}
}

// watched is what the admin server shows of the program itself.
func (c *runCommand) watched() *admin.Server {
	version, commit := builtFrom()
	return &admin.Server{Version: version, Commit: commit, Pprof: c.Pprof}
}

// describe writes down what is served where.
func (e endpoint) describe(log *zap.Logger, p *proxy.Proxy, listener listener) {
	log.Info("listening",
		zap.Stringer("listen", listener.Addr()),
		zap.String("endpoint", p.Endpoint), zap.String("region", e.region), zap.String("kind", string(e.name.Kind)),
		zap.String("via", e.viaName()), zap.Bool("writer_only", p.Writer), zap.Int("pool", p.Pool),
		zap.Bool("socket_passed", listener.passed))
	if named := e.name.Region; named != "" && named != e.region {
		log.Warn("tokens are signed for another region than the endpoint's name has; the database will refuse them if that is a mistake",
			zap.String("endpoint", p.Endpoint), zap.String("region", e.region), zap.String("named", named))
	}
}

func serve(p *proxy.Proxy, listener net.Listener, failed chan<- error) {
	if err := p.Serve(listener); err != nil {
		failed <- err
	}
}
