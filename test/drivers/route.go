//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/clientcert"
	"github.com/iamproxy/iamproxy/test/sidecar"
)

// route is how the programs connect. They read libpq's variables.
type route struct {
	name    string
	proxy   sidecar.Sidecar
	sslmode string
	right   func(session) bool // reports whether a session used this route

	host, port string
	dir        string // for files of the route
	sessions   sessions
}

// session is the log entry of a new session.
type session struct {
	Msg, Client string
	ClientTLS   string `json:"client_tls"`
	ClientCert  string `json:"client_cert"`
}

// routes returns those of the table: the first for all of its columns, and the others for
// one column each.
func routes(binary string, cluster *aurora.Cluster) []*route {
	isSocket := func(s session) bool { return strings.HasPrefix(s.Client, "unix:") }
	routes := []*route{
		{name: "in clear", sslmode: "disable", right: func(s session) bool { return s.ClientTLS == "" && !isSocket(s) }},
		{name: tlsRoute, sslmode: "require", right: func(s session) bool { return s.ClientTLS != "" && s.ClientCert == "CN="+aurora.IAMUser }},
		{name: socketRoute, sslmode: "disable", right: isSocket},
	}
	for _, r := range routes {
		r.proxy = sidecar.Sidecar{Binary: binary, Cluster: cluster, Line: r.sessions.note}
	}
	return routes
}

const (
	tlsRoute    = "TLS"
	socketRoute = "unix socket"
)

// tryAll runs each driver's program on this route.
func (r *route) tryAll(ctx context.Context, drivers []driver, out io.Writer) (rows []row, err error) {
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	for _, d := range drivers {
		tried := attempt(ctx, d, r)
		if ctx.Err() != nil {
			return nil, errors.New("interrupted")
		}
		rows = append(rows, tried)
		fmt.Fprintln(out, outcome(d, tried))
	}
	return rows, nil
}

// start starts an iamproxy for the route.
func (r *route) start(ctx context.Context) (err error) {
	if r.dir, err = os.MkdirTemp("", "drivers-"); err != nil {
		return err
	}
	listen := "127.0.0.1:0"
	switch r.name {
	case tlsRoute:
		p, err := clientcert.Issue(nil, clientcert.Named(aurora.IAMUser)) // its own root
		if err == nil {
			err = p.Write(r.dir)
		}
		if err != nil {
			return errors.Join(err, os.RemoveAll(r.dir))
		}
		r.proxy.Flags = []string{"--listen-tls", "self-signed", "--client-ca", filepath.Join(r.dir, clientcert.CertFile), "--client-cert-user", "cn"}
	case socketRoute:
		listen = "unix:" + r.dir
	}
	r.proxy.Flags = append(r.proxy.Flags, "--listen", listen)
	address, err := r.proxy.Start(ctx)
	if err != nil {
		return errors.Join(err, os.RemoveAll(r.dir))
	}
	if r.name == socketRoute {
		r.host, r.port = r.dir, strings.TrimPrefix(filepath.Base(address), ".s.PGSQL.")
		return nil
	}
	if r.host, r.port, err = net.SplitHostPort(address); err != nil {
		return errors.Join(err, r.stop())
	}
	return nil
}

func (r *route) stop() error {
	return errors.Join(r.proxy.Stop(), os.RemoveAll(r.dir))
}

func (r *route) environment() []string {
	env := sidecar.Environment()
	if r.name == tlsRoute {
		env = append(env, "PGSSLCERT="+filepath.Join(r.dir, clientcert.CertFile), "PGSSLKEY="+filepath.Join(r.dir, clientcert.KeyFile))
	}
	return append(env, "LC_ALL=C.UTF-8", "PGCONNECT_TIMEOUT=30",
		"PGHOST="+r.host, "PGPORT="+r.port, "PGSSLMODE="+r.sslmode, "PGUSER="+aurora.IAMUser, "PGDATABASE="+aurora.Database)
}

// sessions collects the sessions of a log. The zero value is empty.
type sessions struct {
	mu     sync.Mutex
	opened []session
}

func (s *sessions) note(line []byte) {
	var entry session
	if json.Unmarshal(line, &entry) != nil || entry.Msg != "session opened" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = append(s.opened, entry)
}

func (s *sessions) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = nil
}

// other returns the first session for which right is false, or that there was none.
func (s *sessions) other(right func(session) bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.opened) == 0 {
		return "iamproxy tells of none"
	}
	for _, opened := range s.opened {
		if !right(opened) {
			return fmt.Sprintf("%+v", opened)
		}
	}
	return ""
}
