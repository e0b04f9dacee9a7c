//go:build unix

package aurora

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Mode is a shutdown mode of pg_ctl.
type Mode string

// The modes; see "Shutting Down the Server" in the PostgreSQL manual.
const (
	Smart     Mode = "smart"     // waits for all clients to leave
	Fast      Mode = "fast"      // terminates the clients (57P01)
	Immediate Mode = "immediate" // as if it crashed (57P02)
)

var modeSignals = map[Mode]syscall.Signal{
	Smart:     syscall.SIGTERM,
	Fast:      syscall.SIGINT,
	Immediate: syscall.SIGQUIT,
}

// poll is the interval at which conditions are checked that cannot be waited for.
const poll = 5 * time.Millisecond

// errAddressInUse reports that another process listens on the port.
var errAddressInUse = errors.New("address already in use")

// Stop stops the server, even if it is frozen, and returns when it has ended. Its data
// stays. If ctx ends before, the shutdown continues. Stop does nothing if the server is
// stopped.
func (c *Cluster) Stop(ctx context.Context, mode Mode) error {
	signal, ok := modeSignals[mode]
	if !ok {
		return fmt.Errorf("aurora: stop: unknown mode %q", string(mode))
	}
	if err := c.Thaw(); err != nil {
		return err
	}
	c.mu.Lock()
	server := c.server
	c.mu.Unlock()
	if !server.alive() {
		return nil
	}
	if err := server.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("aurora: stop: %w", err)
	}
	select {
	case <-server.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("aurora: %s shutdown: %w", mode, context.Cause(ctx))
	}
}

// Kill kills the server and all its processes (SIGKILL), as the kernel does when memory
// runs out. Its data stays, and Restart recovers it. Kill does nothing if the server is
// stopped.
func (c *Cluster) Kill() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.server.alive() {
		return nil
	}
	c.frozen = false
	family, err := family(c.server.pid())
	if err != nil {
		return fmt.Errorf("aurora: kill: %w", err)
	}
	signalAll(family, syscall.SIGKILL) // the postmaster first, which then forks no more
	<-c.server.done
	return nil
}

// Restart stops a running server in Fast mode, and starts it on the same port, with its
// data. It returns when the server accepts logins.
func (c *Cluster) Restart(ctx context.Context) error {
	return c.restart(ctx, c.launch)
}

// StartOnNewPort restarts the server on another port, which Addr returns.
func (c *Cluster) StartOnNewPort(ctx context.Context) error {
	return c.restart(ctx, c.launchAnywhere)
}

// restart stops the server and calls launch with its port.
func (c *Cluster) restart(ctx context.Context, launch func(ctx context.Context, port int, options ...string) error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	c.mu.Lock()
	port := c.port
	c.mu.Unlock()
	if port == 0 {
		return errors.New("aurora: restart: never started")
	}
	if err := c.Stop(ctx, Fast); err != nil {
		return err
	}
	if err := launch(ctx, port); err != nil {
		return fmt.Errorf("aurora: restart: %w", err)
	}
	return nil
}

// launchAnywhere launches the server on a free port other than not.
func (c *Cluster) launchAnywhere(ctx context.Context, not int, options ...string) error {
	err := errAddressInUse
	for range 20 {
		var port int
		if port, err = freePort(not); err != nil {
			return err
		}
		// Another process may take the port before the server does.
		if err = c.launch(ctx, port, options...); !errors.Is(err, errAddressInUse) {
			return err
		}
	}
	return err
}

// launch starts the server on port, with options of postgres, and waits until it accepts
// logins.
func (c *Cluster) launch(ctx context.Context, port int, options ...string) error {
	logged := c.logSize()
	command := []string{filepath.Join(c.bin, "postgres"), "-D", c.path(dataDir), "-k", c.path(socketDir), "-p", strconv.Itoa(port)}
	server, err := c.spawn(append(command, options...)...)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.server, c.port = server, port
	c.mu.Unlock()

	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		conn, err := c.Admin(ctx, "postgres")
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-tick.C:
		case <-server.done:
			tail := c.logTail(logged)
			if strings.Contains(tail, "Address already in use") {
				return fmt.Errorf("port %d: %w", port, errAddressInUse)
			}
			return fmt.Errorf("postgres: %w; log: %s", server.err, tail)
		case <-ctx.Done():
			tail := c.logTail(logged)
			server.kill()
			return fmt.Errorf("the server does not take logins: %w; log: %s", err, tail)
		}
	}
}

// Admin connects to a database as the superuser, over the unix socket, without TLS, tokens
// and the limit of logins. The caller closes the connection.
func (c *Cluster) Admin(ctx context.Context, database string) (*pgx.Conn, error) {
	c.mu.Lock()
	port := c.port
	c.mu.Unlock()
	config, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s database=%s sslmode=disable",
		quote(c.path(socketDir)), port, superuser, quote(database)))
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, config)
}

// freePort returns a free loopback port other than not. The port is below those that
// kernels use for outgoing connections (from 32768 on Linux, 49152 elsewhere), so that it
// is still free when the server restarts.
func freePort(not int) (int, error) {
	var err error
	for range 100 {
		port := 16384 + rand.IntN(16384)
		if port == not {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port: %w", err)
}

// logSize returns the size of the log.
func (c *Cluster) logSize() int64 {
	info, err := os.Stat(c.path(logFile))
	if err != nil {
		return 0
	}
	return info.Size()
}

// logTail returns the end of the log after the first from bytes, on one line, for an error.
func (c *Cluster) logTail(from int64) string {
	log, err := c.Log()
	if err != nil {
		return err.Error()
	}
	const most = 1000
	from = max(min(from, int64(len(log))), int64(len(log))-most)
	return strings.Join(strings.FieldsFunc(log[from:], func(r rune) bool { return r == '\n' }), " | ")
}
