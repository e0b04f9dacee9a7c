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

	"github.com/iamproxy/iamproxy/internal/sidecar"
	"github.com/iamproxy/iamproxy/internal/standin"
)

// way is how the programs connect. All of them know it by libpq's variables.
type way struct {
	name    string
	proxy   sidecar.Sidecar
	sslmode string
	right   func(session) bool // of one that went this way

	host, port string
	socketDir  string // to be removed; empty: none
	sessions   sessions
}

// session is what iamproxy's log says of one that has begun.
type session struct {
	Msg, Client string
	ClientTLS   string `json:"client_tls"`
}

// ways are those of the table: the first for all of its columns, the others for
// one of their own.
func ways(binary string, cluster *standin.Cluster) []*way {
	isSocket := func(s session) bool { return strings.HasPrefix(s.Client, "unix:") }
	ways := []*way{
		{name: "in clear", sslmode: "disable", right: func(s session) bool { return s.ClientTLS == "" && !isSocket(s) }},
		{name: "TLS", sslmode: "require", right: func(s session) bool { return s.ClientTLS != "" }},
		{name: socketWay, sslmode: "disable", right: isSocket},
	}
	for _, w := range ways {
		w.proxy = sidecar.Sidecar{Binary: binary, Cluster: cluster, Line: w.sessions.note}
	}
	ways[1].proxy.Flags = []string{"--listen-tls", "self-signed"}
	return ways
}

const socketWay = "unix socket"

// tryAll runs each driver's program this way.
func (w *way) tryAll(ctx context.Context, drivers []driver, out io.Writer) (rows []row, err error) {
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	for _, d := range drivers {
		r := attempt(ctx, d, w)
		if ctx.Err() != nil {
			return nil, errors.New("interrupted")
		}
		rows = append(rows, r)
		fmt.Fprintln(out, outcome(d, r))
	}
	return rows, nil
}

// start runs an iamproxy for the way.
func (w *way) start(ctx context.Context) (err error) {
	listen := "127.0.0.1:0"
	if w.name == socketWay {
		if w.socketDir, err = os.MkdirTemp("", "drivers-"); err != nil {
			return err
		}
		listen = "unix:" + w.socketDir
	}
	w.proxy.Flags = append(w.proxy.Flags, "--listen", listen)
	address, err := w.proxy.Start(ctx)
	if err != nil {
		return errors.Join(err, os.RemoveAll(w.socketDir))
	}
	if w.socketDir != "" {
		w.host, w.port = w.socketDir, strings.TrimPrefix(filepath.Base(address), ".s.PGSQL.")
		return nil
	}
	if w.host, w.port, err = net.SplitHostPort(address); err != nil {
		return errors.Join(err, w.stop())
	}
	return nil
}

func (w *way) stop() error {
	err := w.proxy.Stop()
	if w.socketDir != "" {
		err = errors.Join(err, os.RemoveAll(w.socketDir))
	}
	return err
}

func (w *way) environment() []string {
	return append(sidecar.Environment(), "LC_ALL=C.UTF-8", "PGCONNECT_TIMEOUT=30",
		"PGHOST="+w.host, "PGPORT="+w.port, "PGSSLMODE="+w.sslmode, "PGUSER="+standin.IAMUser, "PGDATABASE="+standin.Database)
}

// sessions are those that a log tells of. Its zero value has none.
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

// other is a session that is not of the right kind, if there is any, or that there
// was none.
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
