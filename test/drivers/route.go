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
	"github.com/iamproxy/iamproxy/test/sidecar"
)

// route is how the programs connect. They read libpq's variables.
type route struct {
	name    string
	proxy   sidecar.Sidecar
	sslmode string
	right   func(session) bool // reports whether a session used this route

	host, port string
	socketDir  string // to be removed; empty: none
	sessions   sessions
}

// session is the log entry of a new session.
type session struct {
	Msg, Client string
	ClientTLS   string `json:"client_tls"`
}

// routes returns those of the table: the first for all of its columns, and the others for
// one column each.
func routes(binary string, cluster *aurora.Cluster) []*route {
	isSocket := func(s session) bool { return strings.HasPrefix(s.Client, "unix:") }
	routes := []*route{
		{name: "in clear", sslmode: "disable", right: func(s session) bool { return s.ClientTLS == "" && !isSocket(s) }},
		{name: "TLS", sslmode: "require", right: func(s session) bool { return s.ClientTLS != "" }},
		{name: socketRoute, sslmode: "disable", right: isSocket},
	}
	for _, r := range routes {
		r.proxy = sidecar.Sidecar{Binary: binary, Cluster: cluster, Line: r.sessions.note}
	}
	routes[1].proxy.Flags = []string{"--listen-tls", "self-signed"}
	return routes
}

const socketRoute = "unix socket"

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
	listen := "127.0.0.1:0"
	if r.name == socketRoute {
		if r.socketDir, err = os.MkdirTemp("", "drivers-"); err != nil {
			return err
		}
		listen = "unix:" + r.socketDir
	}
	r.proxy.Flags = append(r.proxy.Flags, "--listen", listen)
	address, err := r.proxy.Start(ctx)
	if err != nil {
		return errors.Join(err, os.RemoveAll(r.socketDir))
	}
	if r.socketDir != "" {
		r.host, r.port = r.socketDir, strings.TrimPrefix(filepath.Base(address), ".s.PGSQL.")
		return nil
	}
	if r.host, r.port, err = net.SplitHostPort(address); err != nil {
		return errors.Join(err, r.stop())
	}
	return nil
}

func (r *route) stop() error {
	err := r.proxy.Stop()
	if r.socketDir != "" {
		err = errors.Join(err, os.RemoveAll(r.socketDir))
	}
	return err
}

func (r *route) environment() []string {
	return append(sidecar.Environment(), "LC_ALL=C.UTF-8", "PGCONNECT_TIMEOUT=30",
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
