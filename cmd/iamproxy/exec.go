package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/iamproxy/iamproxy/internal/admin"
	"github.com/iamproxy/iamproxy/internal/check"
	"github.com/iamproxy/iamproxy/internal/command"
	"github.com/iamproxy/iamproxy/internal/console"
	"github.com/iamproxy/iamproxy/internal/hardening"
	"github.com/iamproxy/iamproxy/internal/limits"
	"github.com/iamproxy/iamproxy/internal/listen"
	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/internal/peercred"
	"github.com/iamproxy/iamproxy/internal/server"
	"github.com/iamproxy/iamproxy/internal/text"
)

type execCommand struct {
	serveFlags
	Env       []string      `form:"template" group:"Command" sep:"\n" help:"Variable of the command, with {user}, {host}, {port}, {database} and {socket} of the first endpoint, and {host2} and so on of the next. Values are percent-encoded if TEMPLATE is a URL. Repeat it for further variables." placeholder:"NAME=TEMPLATE"`
	CleanEnv  bool          `group:"Command" name:"clean-env" help:"Remove the variables AWS_* from the environment of the command."`
	Check     bool          `group:"Command" help:"Start the command only after a login to each endpoint. If one fails, print the output of iamproxy check, and exit with 1."`
	Listen    string        `form:"listen" group:"Network" help:"Address to listen on: a port of a loopback address, or unix:DIR. Default: a unix socket that only this user can reach, and a free port of 127.0.0.1 if --env has {host}." placeholder:"HOST:PORT"`
	AllowUser []string      `form:"users" group:"Network" help:"Further users of this host, by name or number, whose processes may connect. Default: only the user of iamproxy." sep:"," placeholder:"USER"`
	DrainMax  time.Duration `group:"Shutdown" help:"Time after the end of the command when the sessions are closed that it has left open. Default: 5s." default:"5s" placeholder:"DURATION"`
	Admin     string        `form:"address" group:"Observability" help:"Address of the HTTP server for /livez, /startupz, /readyz, /metrics and POST /shutdown, or off. Default: off." default:"off" placeholder:"HOST:PORT"`
	LogLevel  string        `group:"Observability" help:"debug, info, warn or error. Default: warn." enum:"debug,info,warn,error" default:"warn" placeholder:"LEVEL"`
	LogFormat string        `group:"Observability" help:"json or console. Default: console on a terminal, else json." enum:",json,console" default:"" placeholder:"FORMAT"`

	words []string // the command and its arguments

	// Set by Validate:
	config    server.Config
	templates []command.Template
}

// exitCode is the exit code of the command that exec has run. It is not printed.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// checkDatabase is the database of --check if the client chooses it.
const checkDatabase = "postgres"

// leftOpenDelay is the time after the end of the command when open sessions are logged.
const leftOpenDelay = 500 * time.Millisecond

// Validate parses the flags.
func (c *execCommand) Validate(ctx context.Context) (err error) {
	if len(c.words) == 0 {
		return errors.New("no COMMAND given; it comes after --, for example: iamproxy exec ENDPOINT --user app -- psql")
	}
	if c.config, err = c.parse(ctx, c.AllowUser); err != nil {
		return err
	}
	s := &c.config
	targets := make([]command.Target, len(s.Endpoints))
	for i, e := range s.Endpoints {
		targets[i] = command.Target{User: e.User, Database: e.Database}
		if c.Check && e.User == "" {
			return errors.New("--check: needs --user, the database user to log in as")
		}
	}
	for _, argument := range c.Env {
		template, err := command.ParseTemplate(argument, targets)
		if err != nil {
			return err
		}
		c.templates = append(c.templates, template)
	}
	if s.Addrs, err = c.parseAddrs(); err != nil {
		return err
	}
	if c.DrainMax < 0 {
		return fmt.Errorf("--drain-max %s: must not be negative", c.DrainMax)
	}
	s.DrainMax, s.DefaultStatus = c.DrainMax, true
	s.Admin, err = admin.ParseAddress(c.Admin)
	return err
}

// parseAddrs returns the given addresses of the endpoints. Those without one get private addresses.
func (c *execCommand) parseAddrs() ([][]listen.Addr, error) {
	const none = "127.0.0.1:0"
	addrs, err := server.ParseAddrs(c.config.Endpoints, cmp.Or(c.Listen, none))
	if err != nil {
		return nil, err
	}
	for i, e := range c.config.Endpoints {
		if c.Listen == "" && e.Listen == "" {
			addrs[i] = nil
		}
		hasSocket := addrs[i] == nil && usesSockets
		for j, addr := range addrs[i] {
			if addr.Validate(nil) != nil {
				return nil, fmt.Errorf("listen address %s: exec listens on loopback addresses and unix sockets only", addr)
			}
			if addr.Unix { // libpq takes a relative path for a host name
				hasSocket = true
				if addrs[i][j].Host, err = filepath.Abs(addr.Host); err != nil {
					return nil, err
				}
			}
		}
		if !hasSocket && slices.ContainsFunc(c.templates, func(t command.Template) bool { return t.NeedsSocket(i) }) {
			return nil, errors.New("--env: {socket} needs a unix socket, which is not available here; use {host} and {port}")
		}
	}
	return addrs, nil
}

// needsTCP reports whether a template has the host of an endpoint.
func (c *execCommand) needsTCP(i int) bool {
	return slices.ContainsFunc(c.templates, func(t command.Template) bool { return t.NeedsTCP(i) })
}

// isOpenToUsers reports whether the server cannot identify the user of a client at an address.
func isOpenToUsers(a listen.Addr) bool { return !a.Unix && !peercred.Supported("tcp") }

// usesSockets reports whether an endpoint gets a unix socket. Most drivers have none on Windows.
const usesSockets = runtime.GOOS != "windows"

// Run serves the command, and exits with its exit code.
func (c *execCommand) Run(ctx context.Context, std streams) error {
	inherited := os.Environ()
	path, code, err := command.Find(c.words[0])
	if err != nil {
		return notStarted(std, err, code)
	}
	hardening.DisableDumps()
	limits.DelayCollection()
	unsetLibpqEnv()
	received := make(chan os.Signal, 8)
	command.Notify(received)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go command.ReapOrphans(ctx)
	level, _ := zapcore.ParseLevel(c.LogLevel) // kong has validated it
	log, flush := logging.New(std.err, level, consoleFormat(c.LogFormat, std.err, len(c.config.Endpoints)))
	defer flush()

	var dir string
	if usesSockets {
		if dir, err = server.SocketDir(); err != nil {
			return err
		}
	}
	guard := command.StartGuard(dir) // before the directory exists
	defer guard.Stop()
	defer os.RemoveAll(dir) // does nothing if there is none
	if err := c.config.ListenPrivately(dir, c.needsTCP); err != nil {
		return err
	}
	if slices.ContainsFunc(slices.Concat(c.config.Addrs...), isOpenToUsers) {
		log.Warn("other users of this computer can connect to the port of iamproxy; this system does not report the user of a client")
	}
	shutdown := func() { received <- syscall.SIGTERM }
	s := &server.Server{Config: c.config, Log: log, Shutdown: shutdown, Draining: func() bool { return false }}
	s.Version, s.Commit = buildInfo()
	defer s.Close()
	if err := unlessSignaled(ctx, received, func(ctx context.Context) error { return c.prepare(ctx, s, std) }); err != nil {
		return err
	}
	process, err := (&command.Command{Path: path, Args: c.words, Env: c.environment(inherited, s), Guard: guard}).Start()
	if err != nil {
		return notStarted(std, err, command.NotExecutable)
	}
	go limits.ReleaseIdleMemory(ctx)
	superviseCommand(process, received, s, log)
	c.drain(ctx, received, s, log)
	if code := process.ExitCode(); code != 0 {
		return exitCode(code)
	}
	return nil
}

// notStarted prints why the command was not started, and returns the exit code.
func notStarted(std streams, err error, code int) error {
	fmt.Fprintln(std.err, "iamproxy:", text.OneLine(err.Error()))
	return exitCode(code)
}

// unlessSignaled calls f. If a signal is received, it cancels the context of f, and returns the exit
// code for the signal once f has returned.
func unlessSignaled(ctx context.Context, received <-chan os.Signal, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- f(ctx) }()
	select {
	case err := <-result:
		return err
	case signal := <-received:
		cancel()
		return errors.Join(exitCode(command.CodeOf(signal)), <-result)
	}
}

// drain waits for the sessions that the command has left open. A signal ends them.
func (c *execCommand) drain(ctx context.Context, received <-chan os.Signal, s *server.Server, log *zap.Logger) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	done := make(chan struct{})
	defer close(done)
	go forceExitAfter(ctx, forceExitDelay, done)
	go func() {
		select {
		case <-received:
			end()
		case <-done:
		}
	}()
	warning := time.AfterFunc(leftOpenDelay, func() {
		log.Warn(fmt.Sprintf("the command has left %s open", text.Plural(s.OpenSessions(), "session")), zap.Float64("drain_max_s", s.DrainMax.Seconds()))
	})
	defer warning.Stop()
	s.Drain(ctx)
}

// superviseCommand passes signals on to the command until it has exited.
func superviseCommand(process *command.Process, received <-chan os.Signal, s *server.Server, log *zap.Logger) {
	for {
		select {
		case signal := <-received:
			process.Signal(signal)
		case err := <-s.Failed():
			log.Error("could not accept clients any more", zap.Error(err))
		case <-process.Exited():
			return
		}
	}
}

// prepare starts the server. It returns nil when tokens can be signed and, with --check, after a
// login to each endpoint.
func (c *execCommand) prepare(ctx context.Context, s *server.Server, std streams) error {
	if err := s.Configure(ctx); err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	for _, signer := range s.Signers {
		if err := signer.Ready(ctx); err != nil {
			return fmt.Errorf("could not sign a token, so the command was not started: %w", text.WithAdvice(err))
		}
	}
	if !c.Check {
		return nil
	}
	for i := range s.Endpoints {
		if err := c.check(ctx, s, i, std); err != nil {
			return err
		}
	}
	return nil
}

// check logs in to an endpoint. If that fails, it prints what iamproxy check prints.
func (c *execCommand) check(ctx context.Context, s *server.Server, i int, std streams) error {
	e := s.Endpoints[i]
	e.Database = cmp.Or(e.Database, checkDatabase)
	identity, err := s.Identities.Load(ctx, e)
	if err != nil {
		return usageError{err}
	}
	checks, err := (&checkCommand{connectFlags: c.connectFlags, endpoint: e}).check(identity, s.Forwards[i])
	if err != nil {
		return err
	}
	var out bytes.Buffer
	writer := &check.TextWriter{Out: &out, Colors: console.SupportsColors(std.err), Width: console.Width(std.err)}
	checks.Observe = writer.Step
	timeout, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
	defer cancel()
	report := checks.Run(timeout)
	if report.OK || ctx.Err() != nil { // a signal has stopped the checks
		return ctx.Err()
	}
	if err := writer.Verdict(report); err != nil {
		return err
	}
	if _, err := std.err.Write(out.Bytes()); err != nil {
		return err
	}
	return errCheckFailed
}

// environment returns the environment of the command.
func (c *execCommand) environment(inherited []string, s *server.Server) []string {
	var targets []command.Target
	for i, e := range s.Endpoints {
		target := command.Target{User: e.User, Database: e.Database}
		for _, addr := range s.ListenAddrs(i) {
			if tcp, ok := addr.(*net.TCPAddr); ok {
				target.TCP = cmp.Or(target.TCP, tcp.String())
			}
		}
		for _, addr := range s.Addrs[i] {
			if addr.Unix {
				target.Socket, target.SocketPort = addr.Host, strconv.FormatUint(addr.Port, 10)
			}
		}
		targets = append(targets, target)
	}
	more := make(map[string]string)
	for _, template := range c.templates {
		more[template.Name] = template.Expand(targets)
	}
	return command.Environment(inherited, c.CleanEnv, targets, more)
}
