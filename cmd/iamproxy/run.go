package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/iamproxy/iamproxy/internal/admin"
	"github.com/iamproxy/iamproxy/internal/console"
	"github.com/iamproxy/iamproxy/internal/hardening"
	"github.com/iamproxy/iamproxy/internal/limits"
	"github.com/iamproxy/iamproxy/internal/listen"
	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/internal/server"
	"github.com/iamproxy/iamproxy/internal/signals"
)

type runCommand struct {
	serveFlags
	Listen         string        `form:"listen" group:"Network" help:"Address to listen on, or unix:DIR for the socket DIR/.s.PGSQL.5432. localhost is 127.0.0.1 and ::1. Default: localhost:5432." default:"localhost:5432" placeholder:"HOST:PORT"`
	SocketMode     string        `form:"mode" group:"Network" help:"File mode of a unix socket, in octal. Default: 0660." default:"0660" placeholder:"MODE"`
	ListenTLS      string        `form:"tls" group:"Network" name:"listen-tls" help:"TLS for clients that request it: off, self-signed, or CERT.pem,KEY.pem, which are reloaded when they change. Default: off." default:"off" placeholder:"HOW"`
	RequireTLS     bool          `group:"Network" name:"require-tls" help:"Reject clients without TLS, except at a unix socket. It needs --listen-tls."`
	ClientCA       string        `form:"file" group:"Network" name:"client-ca" help:"PEM file with the roots of client certificates, which is reloaded when it changes. Clients without TLS or without a valid certificate are rejected." placeholder:"FILE"`
	ClientCertUser string        `group:"Network" help:"The name in the client certificate that must be the database user: cn (the common name), san (an alternative name: DNS name, email address or URI), or off (none). Default: off." enum:"cn,san,off" default:"off" placeholder:"HOW"`
	AllowFrom      []string      `form:"networks" group:"Network" help:"Addresses and networks (CIDR) from which clients may connect. Required to listen beyond loopback, since clients need no password." sep:"," placeholder:"CIDR"`
	AllowUser      []string      `form:"users" group:"Network" help:"Users of this host, by name or number, whose processes may connect. Default: all." sep:"," placeholder:"USER"`
	DrainMin       time.Duration `group:"Shutdown" help:"How long new clients are accepted after a termination signal. Default: 0s." default:"0s" placeholder:"DURATION"`
	DrainMax       time.Duration `group:"Shutdown" help:"Time after a termination signal when open sessions are closed. Default: 25s." default:"25s" placeholder:"DURATION"`
	Admin          string        `form:"address" group:"Observability" help:"Address of the HTTP server for /livez, /startupz, /readyz, /metrics and POST /shutdown, or off. Default: 127.0.0.1:9090." placeholder:"HOST:PORT"`
	Status         string        `form:"address" group:"Observability" help:"Address of the status page, or off. The page names users, clients and roles. Default: the address of --admin if that is loopback, else off." placeholder:"HOST:PORT"`
	Pprof          bool          `group:"Observability" help:"Serve profiles of the Go runtime at /debug/pprof/ of --admin, to loopback only."`
	LogLevel       string        `group:"Observability" help:"debug, info, warn or error. Default: info." enum:"debug,info,warn,error" default:"info" placeholder:"LEVEL"`
	LogFormat      string        `group:"Observability" help:"json or console. Default: console on a terminal, else json." enum:",json,console" default:"" placeholder:"FORMAT"`

	config    server.Config // set by Validate
	extension *extension    // nil unless Lambda has started this process
}

// Validate parses the flags.
func (c *runCommand) Validate(ctx context.Context) (err error) {
	if c.config, err = c.parse(ctx, c.AllowUser); err != nil {
		return err
	}
	s := &c.config
	s.RequireTLS, s.ClientCA, s.ClientCertUser = c.RequireTLS, c.ClientCA, c.ClientCertUser
	s.DrainMin, s.DrainMax, s.Fleet = c.DrainMin, c.DrainMax, c.extension != nil
	s.DefaultAdmin, s.DefaultStatus, s.Pprof = c.Admin == "", c.Status == "", c.Pprof
	if s.Addrs, err = server.ParseAddrs(s.Endpoints, c.Listen); err != nil {
		return err
	}
	if s.SocketMode, err = listen.ParseSocketMode(c.SocketMode); err != nil {
		return err
	}
	if s.AllowFrom, err = listen.ParseAllowFrom(c.AllowFrom); err != nil {
		return err
	}
	for _, addr := range slices.Concat(s.Addrs...) {
		if err := cmp.Or(addr.Validate(s.AllowFrom), s.AllowUser.Validate(addr.Network(), addr.String())); err != nil {
			return err
		}
	}
	if c.DrainMin < 0 || c.DrainMax < c.DrainMin {
		return fmt.Errorf("--drain-min %s, --drain-max %s: require 0 <= --drain-min <= --drain-max", c.DrainMin, c.DrainMax)
	}
	if s.ListenTLS, err = server.ParseListenTLS(c.ListenTLS); err != nil {
		return err
	}
	if err := c.validateClientAuth(); err != nil {
		return err
	}
	if s.Admin, err = admin.ParseAddress(c.Admin); err != nil {
		return err
	}
	s.Status, err = admin.ParseStatus(c.Status, s.Admin)
	return err
}

// validateClientAuth returns an error if a flag that makes clients use TLS cannot have an effect.
func (c *runCommand) validateClientAuth() error {
	flag := ""
	switch {
	case c.ClientCA != "":
		flag = "--client-ca"
	case c.RequireTLS:
		flag = "--require-tls"
	}
	overTCP := func(addr listen.Addr) bool { return !addr.Unix }
	switch {
	case c.ClientCertUser != "off" && c.ClientCA == "":
		return fmt.Errorf("--client-cert-user %s: needs --client-ca, which verifies the certificate", c.ClientCertUser)
	case flag != "" && c.config.ListenTLS == server.ListenTLS{}:
		return fmt.Errorf("%s: needs --listen-tls", flag)
	case flag != "" && !slices.ContainsFunc(slices.Concat(c.config.Addrs...), overTCP):
		return fmt.Errorf("%s: has no effect, since clients of a unix socket use no TLS; --socket-mode and --allow-user restrict clients there", flag)
	}
	return nil
}

// Run serves clients until a signal or a request for shutdown, and then drains.
func (c *runCommand) Run(ctx context.Context, std streams) error {
	hardening.DisableDumps()
	limits.DelayCollection()
	draining, shutdown := context.WithCancel(ctx)
	defer shutdown()
	ending, end := context.WithCancel(ctx)
	defer end()
	terminations := make(chan os.Signal, 2)
	// Until the process exits: the default action of a late signal would replace the exit code.
	signal.Notify(terminations, os.Interrupt, syscall.SIGTERM)
	go signals.Handle(ending, draining, terminations, shutdown, end)
	done := make(chan struct{})
	defer close(done)
	go forceExitAfter(draining, c.DrainMax+forceExitDelay, done)
	go forceExitAfter(ending, forceExitDelay, done)
	others := signals.NotifyOthers()

	level, _ := zapcore.ParseLevel(c.LogLevel) // kong has validated it
	format := consoleFormat(c.LogFormat, std.err, len(c.config.Endpoints))
	newLog := logging.New
	if c.extension != nil {
		newLog = newExtensionLog
	}
	log, flush := newLog(std.err, level, format)
	defer flush()
	go others.Handle(ending, log, shutdown)
	s := &server.Server{Config: c.config, Log: log, Shutdown: shutdown, Draining: func() bool { return draining.Err() != nil }}
	s.Version, s.Commit = buildInfo()
	if err := s.Configure(ctx); err != nil {
		return err
	}
	logging.Print(log, zap.InfoLevel, "iamproxy "+s.Version)
	defer s.Close()
	switch err := s.Start(draining); {
	case err != nil && draining.Err() != nil:
		return nil // shut down before the start
	case err != nil:
		return err
	}
	notify(log, daemon.SdNotifyReady)
	if c.extension != nil {
		defer c.extension.serve(draining, s)()
	} else if callersLogged := s.Identities.LogCallers(draining); format != nil {
		go console.PrintReady(draining, log, s.Signers, callersLogged)
	}
	go limits.ReleaseIdleMemory(draining)
	var err error
	select {
	case err = <-s.Failed():
		log.Error("could not accept clients any more", zap.Error(err))
		shutdown()
	case <-draining.Done():
	}
	notify(log, daemon.SdNotifyStopping)
	s.Drain(ending)
	return err
}

// forceExitDelay is the time that a drain may exceed its deadline.
const forceExitDelay = 5 * time.Second

// forceExitAfter exits the process if it does not end in time after ctx is done.
func forceExitAfter(ctx context.Context, timeout time.Duration, done <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-done:
		return
	}
	select {
	case <-time.After(timeout):
		exitNow()
	case <-done:
	}
}

// notify sends a state to systemd if it has requested that (Type=notify).
// https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
func notify(log *zap.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("could not send the state to systemd", zap.String("state", state), zap.Error(err))
	}
}
