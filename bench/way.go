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

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/internal/sidecar"
	"github.com/iamproxy/iamproxy/internal/standin"
)

// The ways from a client to the server.
const (
	directWay    = "direct"
	pgbouncerWay = "PgBouncer"
	iamproxyWay  = "iamproxy"
	baselineWay  = "baseline" // another iamproxy
)

// way is one of them; binary is for those of iamproxy.
type way struct{ name, binary string }

func (w way) proxied() bool { return w.name != directWay }

// proxied are those that lead through a proxy.
func proxied(ways []way) []way {
	var some []way
	for _, w := range ways {
		if w.proxied() {
			some = append(some, w)
		}
	}
	return some
}

// path is a way that is open: where clients connect, and how.
type path struct {
	name       string
	host, port string
	password   string // a token, if clients log in themselves
	caFile     string // with which they verify the server; empty: in clear
	pid        int    // of the proxy; 0: none
	stop       func() error
	quiet      func() error
}

// open opens a way for so many sessions. With a pool a proxy keeps the sessions that
// clients have left, for others.
func (b *bench) open(ctx context.Context, w way, sessions int) (*path, error) {
	return b.openPool(ctx, w, sessions, 0)
}

func (b *bench) openPool(ctx context.Context, w way, sessions, pool int) (p *path, err error) {
	switch w.name {
	case directWay:
		p, err = b.direct(ctx)
	case pgbouncerWay:
		p, err = b.pgbouncer(ctx, sessions, pool)
	default:
		p, err = b.sidecar(ctx, w.binary, pool)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.name, err)
	}
	p.name = w.name
	p.quiet = func() error { return b.quiet(ctx) }
	return p, nil
}

// close waits for all sessions to end.
func (p *path) close() error {
	if p.stop != nil {
		if err := p.stop(); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return p.quiet()
}

// each opens one way after the other, does something there, and closes it.
func (b *bench) each(ctx context.Context, ways []way, do func(*path) error) error {
	for _, w := range ways {
		p, err := b.open(ctx, w, sessionsMost)
		if err != nil {
			return err
		}
		if err := errors.Join(do(p), p.close()); err != nil {
			return err
		}
	}
	return nil
}

// direct is the way of a client that has a token at hand.
func (b *bench) direct(ctx context.Context) (*path, error) {
	token, err := b.token(ctx)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(b.cluster.Addr())
	return &path{host: host, port: port, password: token, caFile: b.cluster.CAFile()}, err
}

// sidecar is the way through an iamproxy. AWS would let in 200 logins a second, which
// is why it has a limit; the server here has none.
func (b *bench) sidecar(ctx context.Context, binary string, pool int) (*path, error) {
	s := &sidecar.Sidecar{Binary: binary, Cluster: b.cluster, Flags: []string{"--listen", "127.0.0.1:0", "--connect-rate", "0"}}
	if pool > 0 {
		s.Flags = append(s.Flags, "--pool", strconv.Itoa(pool))
	}
	listen, err := s.Start(ctx)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return &path{host: host, port: port, pid: s.PID(), stop: s.Stop}, nil
}

// hasPool tells whether an iamproxy can keep sessions.
func hasPool(binary string) bool {
	help, err := exec.Command(binary, "run", "--help").Output()
	return err == nil && bytes.Contains(help, []byte("--pool"))
}

// token is a fresh one, which holds for 15 minutes.
func (b *bench) token(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, b.binary, "token", standin.DefaultHost, "--user", standin.IAMUser)
	cmd.Env = append(sidecar.Environment(),
		"AWS_ACCESS_KEY_ID="+standin.DefaultSessionKey.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY="+standin.DefaultSessionKey.SecretAccessKey,
		"AWS_SESSION_TOKEN="+standin.DefaultSessionKey.SessionToken)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s token: %w: %s", b.binary, err, oneLine(said.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// env is for programs with libpq.
func (p *path) env() []string {
	env := append(sidecar.Environment(), "PGUSER="+standin.IAMUser, "PGDATABASE="+standin.Database,
		"PGPORT="+p.port, "PGCONNECT_TIMEOUT=30", "PGGSSENCMODE=disable")
	if p.caFile == "" {
		return append(env, "PGHOST="+p.host, "PGSSLMODE=disable")
	}
	return append(env, "PGHOST="+standin.DefaultHost, "PGHOSTADDR="+p.host, "PGPASSWORD="+p.password,
		"PGSSLMODE=verify-full", "PGSSLROOTCERT="+p.caFile)
}

// config is for clients of our own.
func (p *path) config() (*pgconn.Config, error) {
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s user=%s database=%s sslmode=disable connect_timeout=60",
		p.host, p.port, standin.IAMUser, standin.Database))
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
	config.TLSConfig = &tls.Config{ServerName: standin.DefaultHost, RootCAs: roots}
	return config, nil
}

// oneLine is what a program said, for an error.
func oneLine(out []byte) string {
	return strings.Join(strings.FieldsFunc(strings.TrimSpace(string(out)), func(r rune) bool { return r == '\n' }), " | ")
}
