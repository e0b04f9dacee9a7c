//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/sidecar"
)

// The targets: how clients reach the server.
const (
	directTarget    = "direct"
	pgbouncerTarget = "PgBouncer"
	iamproxyTarget  = "iamproxy"
	baselineTarget  = "baseline" // another iamproxy
)

// target names one of them; binary is set where it is an iamproxy.
type target struct{ name, binary string }

func (t target) proxied() bool { return t.name != directTarget }

// proxied returns the targets with a proxy.
func proxied(targets []target) []target {
	var some []target
	for _, t := range targets {
		if t.proxied() {
			some = append(some, t)
		}
	}
	return some
}

// path is an open target: where and how clients connect.
type path struct {
	name       string
	host, port string
	password   string // a token, if clients log in themselves
	caFile     string // to verify the server with; empty: in clear
	binary     string // of an iamproxy
	admin      string // the address of its admin server
	pid        int    // of the proxy; 0: none
	started    time.Time
	stop       func() error
	quiet      func() error
}

// open opens a target.
func (b *bench) open(ctx context.Context, t target) (*path, error) {
	return b.openPool(ctx, t, 0)
}

// openPool opens a target. With a pool, a proxy keeps the server connections of clients that
// have disconnected.
func (b *bench) openPool(ctx context.Context, t target, pool int) (p *path, err error) {
	switch t.name {
	case directTarget:
		p, err = b.direct(ctx)
	case pgbouncerTarget:
		p, err = b.pgbouncer(ctx, sessionsMost, pool)
	default:
		p, err = b.sidecar(ctx, t.binary, pool)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.name, err)
	}
	p.name = t.name
	p.quiet = func() error { return b.quiet(ctx) }
	return p, nil
}

// close ends a proxy, and waits for all sessions to end.
func (p *path) close() error {
	if err := p.end(); err != nil {
		return err
	}
	return p.quiet()
}

// end ends a proxy. Sessions may remain on the server for a moment.
func (p *path) end() error {
	if p.stop != nil {
		if err := p.stop(); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// each opens one target after the other, calls do, and closes it.
func (b *bench) each(ctx context.Context, targets []target, do func(*path) error) error {
	for _, t := range targets {
		p, err := b.open(ctx, t)
		if err != nil {
			return err
		}
		if err := errors.Join(do(p), p.close()); err != nil {
			return err
		}
	}
	return nil
}

// direct is the path of a client with a token.
func (b *bench) direct(ctx context.Context) (*path, error) {
	token, err := b.token(ctx)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(b.cluster.Addr())
	return &path{host: host, port: port, password: token, caFile: b.cluster.CAFile()}, err
}

// sidecar is the path through an iamproxy, without its default limit of logins per second:
// that of AWS does not apply here.
func (b *bench) sidecar(ctx context.Context, binary string, pool int) (*path, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p := &path{binary: binary, admin: net.JoinHostPort("127.0.0.1", port)}
	s := &sidecar.Sidecar{Binary: binary, Cluster: b.cluster, Flags: []string{"--listen", "127.0.0.1:0", "--admin", p.admin, "--connect-rate", "0"}}
	if pool > 0 {
		s.Flags = append(s.Flags, "--pool", strconv.Itoa(pool))
	}
	var listen string
	err = b.limit.start(func() (err error) {
		p.started = time.Now()
		listen, err = s.Start(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	p.pid, p.stop = s.PID(), s.Stop
	if p.host, p.port, err = net.SplitHostPort(listen); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return p, nil
}

// token returns a fresh token, which is valid for 15 minutes.
func (b *bench) token(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, b.binary, "token", aurora.DefaultHost, "--user", aurora.IAMUser)
	cmd.Env = append(sidecar.Environment(),
		"AWS_ACCESS_KEY_ID="+aurora.DefaultSessionKey.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY="+aurora.DefaultSessionKey.SecretAccessKey,
		"AWS_SESSION_TOKEN="+aurora.DefaultSessionKey.SessionToken)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s token: %w: %s", b.binary, err, oneLine(said.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// env returns the environment of programs with libpq.
func (p *path) env() []string {
	env := append(sidecar.Environment(), "PGUSER="+aurora.IAMUser, "PGDATABASE="+aurora.Database,
		"PGPORT="+p.port, "PGCONNECT_TIMEOUT=30", "PGGSSENCMODE=disable")
	if p.caFile == "" {
		return append(env, "PGHOST="+p.host, "PGSSLMODE=disable")
	}
	return append(env, "PGHOST="+aurora.DefaultHost, "PGHOSTADDR="+p.host, "PGPASSWORD="+p.password,
		"PGSSLMODE=verify-full", "PGSSLROOTCERT="+p.caFile)
}

// config returns the configuration of pgx.
func (p *path) config() (*pgconn.Config, error) {
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s user=%s database=%s sslmode=disable connect_timeout=60",
		p.host, p.port, aurora.IAMUser, aurora.Database))
	if err != nil || p.caFile == "" {
		return config, err
	}
	ca, err := os.ReadFile(p.caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	config.Password = p.password
	config.TLSConfig = &tls.Config{ServerName: aurora.DefaultHost, RootCAs: roots}
	return config, nil
}

// oneLine returns the output of a program on one line, for an error.
func oneLine(out []byte) string {
	return strings.Join(strings.FieldsFunc(strings.TrimSpace(string(out)), func(r rune) bool { return r == '\n' }), " | ")
}
