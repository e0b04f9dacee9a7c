//go:build unix

package main

import (
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/internal/standin"
)

// codeOf is the SQLSTATE of an error.
func codeOf(err error) string {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return said.Code
	}
	return ""
}

// One client more than --max-sessions is told so, over all endpoints, and gets in when
// another has left. A cancel request needs no room.
func TestMaxSessions(t *testing.T) {
	cluster := startCluster(t, &standin.Cluster{})
	second := standin.DefaultHost + "?listen=127.0.0.1:0"
	p := startProxy(t, keyEnvironment(standin.DefaultKey), append([]string{second}, clusterArgs(cluster, "--max-sessions=2")...)...)
	testCancel(t, cluster, p) // two sessions, and a third connection for the request

	connect := func() (*pgx.Conn, error) { return p.connect(t.Context(), standin.IAMUser, standin.Database) }
	var first *pgx.Conn
	until(t, "room for one", func() (ok bool) {
		var err error
		first, err = connect()
		return err == nil
	})
	p.listens[0], p.listens[1] = p.listens[1], p.listens[0]
	until(t, "room for another", func() bool {
		conn, err := connect()
		if err == nil {
			t.Cleanup(func() { _ = conn.Close(t.Context()) })
		}
		return err == nil
	})
	for range 2 {
		if _, err := connect(); codeOf(err) != "53300" || !strings.Contains(err.Error(), "too many clients: there are 2 already") {
			t.Errorf("a third client: %v", err)
		}
		p.listens[0], p.listens[1] = p.listens[1], p.listens[0]
	}
	_ = first.Close(t.Context())
	until(t, "room again", func() bool {
		conn, err := connect()
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err == nil
	})
}

// Without file descriptors clients wait or are told; with them it works again.
func TestNoFileDescriptors(t *testing.T) {
	cluster := startCluster(t, &standin.Cluster{})
	limited := append([]string{"-c", `ulimit -n 40; exec "$0" "$@"`, binaryPath(t)}, clusterArgs(cluster)...)
	cmd := exec.Command("sh", limited...)
	cmd.Env = keyEnvironment(standin.DefaultKey)
	p := startCommand(t, cmd, 1)
	p.mustPSQL(standin.IAMUser, standin.Database, "select 1")
	var crowd []net.Conn
	for range 100 {
		crowd = append(crowd, dial(t, p.listens[0]))
	}
	until(t, "descriptors to be used up", func() bool { return strings.Contains(p.logs(), "cannot accept clients for now") })
	for _, conn := range crowd {
		conn.Close()
	}
	until(t, "service", func() bool {
		_, err := p.psql(standin.IAMUser, standin.Database, "select 1")
		return err == nil
	})
}

// Who may connect is for --allow-from to say, also beyond loopback.
func TestAllowFrom(t *testing.T) {
	cluster := startCluster(t, &standin.Cluster{})
	nobody := startProxy(t, keyEnvironment(standin.DefaultKey), clusterArgs(cluster, "--allow-from=192.0.2.0/24")...)
	expectRefusal(t, nobody, standin.IAMUser, standin.Database, "iamproxy: clients from 127.0.0.1 may not connect", "--allow-from has the addresses that may")
	if verdicts := cluster.Verdicts(); len(verdicts) > 0 {
		t.Errorf("somebody who may not was logged in: %+v", verdicts)
	}
	args := append(clusterArgs(cluster, "--allow-from=192.0.2.0/24,127.0.0.0/8"), "--listen=0.0.0.0:0")
	everywhere := startProxy(t, keyEnvironment(standin.DefaultKey), args...)
	everywhere.mustPSQL(standin.IAMUser, standin.Database, "select 1")
}
