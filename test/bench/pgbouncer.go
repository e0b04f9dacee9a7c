//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// ini configures PgBouncer like iamproxy: clients connect in clear and without a password,
// each session has a server connection, and the server's name is verified. All else is
// default, including the log.
const ini = `[databases]
%[1]s = host=%[2]s port=%[3]s user=%[4]s password='%[5]s'

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %[6]s
unix_socket_dir =
auth_type = any
pool_mode = session
max_client_conn = %[7]d
default_pool_size = %[8]d
server_tls_sslmode = %[10]s
server_tls_ca_file = %[9]s
ignore_startup_parameters = extra_float_digits
resolv_conf = %[11]s
logfile = %[12]s
`

// pgbouncer is the path through a PgBouncer with a fresh token, which is valid for longer
// than any measurement.
func (b *bench) pgbouncer(ctx context.Context, sessions, pool int) (*path, error) {
	token, err := b.token(ctx)
	if err != nil {
		return nil, err
	}
	_, server, err := net.SplitHostPort(b.cluster.Addr())
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "pgbouncer-")
	if err != nil {
		return nil, err
	}
	if pool == 0 {
		pool = sessions
	}
	host, mode := b.names.forPgbouncer()
	config, resolver := filepath.Join(dir, "pgbouncer.ini"), filepath.Join(dir, "resolv.conf")
	text := fmt.Sprintf(ini, aurora.Database, host, server, aurora.IAMUser, token,
		port, sessions, pool, b.cluster.CAFile(), mode, resolver, filepath.Join(dir, "pgbouncer.log"))
	err = errors.Join(os.WriteFile(config, []byte(text), 0o600), os.WriteFile(resolver, []byte("nameserver "+b.names.host+"\n"), 0o644))
	if err != nil {
		return nil, err
	}
	cmd, err := command(ctx, b.bouncer, dir, config)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := b.limit.start(cmd.Start); err != nil {
		return nil, err
	}
	if err := listening(ctx, cmd, net.JoinHostPort("127.0.0.1", port)); err != nil {
		return nil, err
	}
	stop := func() error {
		return errors.Join(cmd.stop(), os.RemoveAll(dir))
	}
	return &path{host: "127.0.0.1", port: port, pid: cmd.Process.Pid, started: began, stop: stop}, nil
}

// findPgbouncer returns the program, which Debian puts in root's PATH only.
func findPgbouncer() (string, error) {
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if found, err := exec.LookPath(name); err == nil {
			return found, nil
		}
	}
	return "", errors.New("no PgBouncer found: install the distribution's pgbouncer package")
}

// daemon is a program that runs until it is stopped.
type daemon struct {
	*exec.Cmd
	said  bytes.Buffer
	ended chan struct{}
	err   error // the result
}

// command returns PgBouncer with a configuration. It refuses to run as root, so that it
// runs as another user, who owns the directory.
func command(ctx context.Context, program, dir, config string) (*daemon, error) {
	d := &daemon{Cmd: exec.CommandContext(ctx, program, "-q", config), ended: make(chan struct{})}
	d.Cancel = func() error { return d.Process.Signal(syscall.SIGTERM) }
	d.Stderr = &d.said
	// This process handles Ctrl-C and ends it.
	d.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() != 0 {
		return d, nil
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, errUID := strconv.ParseUint(who.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(who.Gid, 10, 32)
	if err := errors.Join(errUID, errGID); err != nil {
		return nil, err
	}
	d.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return d, errors.Join(os.Chown(dir, int(uid), int(gid)), os.Chown(config, int(uid), int(gid)))
}

// listening returns when a started one accepts connections.
func listening(ctx context.Context, d *daemon, address string) error {
	go d.wait()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-d.ended:
			return fmt.Errorf("did not start: %w: %s", d.err, oneLine(d.said.Bytes()))
		case <-ctx.Done():
			<-d.ended
			return context.Cause(ctx)
		}
	}
}

func (d *daemon) wait() {
	d.err = d.Wait()
	close(d.ended)
}

// stop ends it at once. It is an error if it has already ended.
func (d *daemon) stop() error {
	select {
	case <-d.ended:
		return fmt.Errorf("ended by itself: %w: %s", d.err, oneLine(d.said.Bytes()))
	default:
	}
	err := d.Process.Signal(syscall.SIGTERM)
	<-d.ended // its exit code is 1
	return err
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
