//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// codeOf returns the SQLSTATE of an error.
func codeOf(err error) string {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return said.Code
	}
	return ""
}

// hintOf returns the hint of an error.
func hintOf(err error) string {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return said.Hint
	}
	return ""
}

// A client above --max-sessions, which counts all endpoints, is rejected. A cancel request
// does not count.
func TestMaxSessions(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	second := aurora.DefaultHost + "?listen=127.0.0.1:0"
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), append([]string{second}, clusterArgs(cluster, "--max-sessions=2")...)...)
	testCancel(t, cluster, p) // two sessions, and a third connection for the request

	connect := func() (*pgx.Conn, error) { return p.connect(t.Context(), aurora.IAMUser, aurora.Database) }
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
		if _, err := connect(); codeOf(err) != "53300" || !strings.Contains(err.Error(), "too many clients already (limit 2)") {
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

// startLimited is startProxy with a limit of file descriptors.
func startLimited(t *testing.T, descriptors int, args ...string) *process {
	t.Helper()
	script := fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, descriptors)
	cmd := exec.Command("sh", append([]string{"-c", script, binaryPath(t)}, args...)...)
	cmd.Env = keyEnvironment(aurora.DefaultKey)
	return startCommand(t, cmd, 1)
}

// expectWatched fails if the admin server does not answer.
func (p *process) expectWatched() {
	p.t.Helper()
	for _, path := range []string{"/livez", "/metrics"} {
		if status, body := p.get(path); status != http.StatusOK {
			p.t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// Clients cannot use up the file descriptors of the rest: neither silent connections nor
// sessions, above whose limit clients are rejected.
func TestFewFileDescriptors(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startLimited(t, 256, clusterArgs(cluster)...)
	for range 100 {
		dial(t, p.listens[0])
	}
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	p.expectWatched()
	connect := func() (*pgx.Conn, error) { return p.connect(t.Context(), aurora.IAMUser, aurora.Database) }
	var sessions []*pgx.Conn
	for {
		conn, err := connect()
		if err != nil {
			if codeOf(err) != "53300" || !strings.Contains(err.Error(), "too many clients already") || !strings.Contains(hintOf(err), "ulimit -n") {
				t.Errorf("one client too many: %v", err)
			}
			break
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		if sessions = append(sessions, conn); len(sessions) > 128 {
			t.Fatal("there are more sessions than descriptors for them")
		}
	}
	if len(sessions) < 32 {
		t.Errorf("only %d sessions fit into 256 descriptors", len(sessions))
	}
	p.expectWatched()
	if strings.Contains(p.logs(), "could not accept a client; trying again") {
		t.Error("descriptors were used up")
	}
	_ = sessions[0].Close(t.Context())
	until(t, "room again", func() bool {
		conn, err := connect()
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err == nil
	})
}

// Without file descriptors, clients wait until there are some.
func TestNoFileDescriptors(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	setDescriptors(t, p, 0)
	waiting := make(chan error, 1)
	go func() {
		conn, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
		if err == nil {
			err = conn.Close(t.Context())
		}
		waiting <- err
	}()
	until(t, "accepting to fail", func() bool { return strings.Contains(p.logs(), "could not accept a client; trying again") })
	setDescriptors(t, p, 1024)
	if err := <-waiting; err != nil {
		t.Errorf("a client that waited was told %v", err)
	}
}

// If --max-sessions exceeds the file descriptors, a warning is logged.
func TestMoreSessionsThanDescriptors(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startLimited(t, 256, clusterArgs(cluster, "--max-sessions=1000")...)
	if !strings.Contains(p.logs(), "not enough file descriptors for --max-sessions") {
		t.Error("no warning")
	}
}

// --allow-from restricts clients, also beyond loopback.
func TestAllowFrom(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	nobody := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--allow-from=192.0.2.0/24", "--listen-tls=self-signed")...)
	const refusal = "iamproxy: connections from 127.0.0.1 are not allowed"
	expectRefusal(t, nobody, aurora.IAMUser, aurora.Database, refusal, "--allow-from")
	for _, mode := range []string{"disable", "require"} {
		if out, err := psqlAt(t, nobody.conninfo(aurora.IAMUser, aurora.Database)+" sslmode="+mode, "select 1"); err == nil || !strings.Contains(out, refusal) {
			t.Errorf("sslmode=%s: psql printed %q", mode, out)
		}
	}
	if verdicts := cluster.Verdicts(); len(verdicts) > 0 {
		t.Errorf("somebody who may not was logged in: %+v", verdicts)
	}
	args := append(clusterArgs(cluster, "--allow-from=192.0.2.0/24,127.0.0.0/8"), "--listen=0.0.0.0:0")
	everywhere := startProxy(t, keyEnvironment(aurora.DefaultKey), args...)
	everywhere.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	const unencrypted = "clients on the network send queries and data unencrypted; set --listen-tls"
	const optional = "clients on the network may connect without TLS; set --require-tls"
	until(t, "the warning about clients without TLS", func() bool { return strings.Contains(everywhere.logs(), unencrypted) })
	if strings.Contains(nobody.logs(), unencrypted) {
		t.Error("a warning about clients on loopback")
	}
	for more, want := range map[string]bool{"--require-tls=false": true, "--require-tls": false} {
		p := startProxy(t, keyEnvironment(aurora.DefaultKey), append(slices.Clone(args), "--listen-tls=self-signed", more)...)
		p.admin() // is logged after it
		if logs := p.logs(); strings.Contains(logs, optional) != want || strings.Contains(logs, unencrypted) {
			t.Errorf("%s: %s", more, logs)
		}
	}
}

// Clients log in even if the log is not read, as when a container runtime hangs.
func TestSessionsWithUnreadLog(t *testing.T) {
	const sessions = 300 // with more log lines than fit into a pipe
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	p.expectWatched()
	resume := p.stopReading()
	defer resume()
	for range sessions {
		conn, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close(t.Context())
	}
	p.expectWatched()
	resume()
	until(t, "all that was said to be read", func() bool { return strings.Count(p.logs(), `"msg":"session ended"`) == sessions })
}

// Neither can rejected clients that stay connected use up file descriptors.
func TestRejectedClientsUseNoDescriptors(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startLimited(t, 256, clusterArgs(cluster)...)
	for {
		conn, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
		if err != nil {
			break
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	startup, err := (&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber,
		Parameters: map[string]string{"user": aurora.IAMUser, "database": aurora.Database}}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 400 {
		if _, err := dial(t, p.listens[0]).Write(startup); err != nil {
			t.Fatal(err)
		}
	}
	p.expectWatched()
	if strings.Contains(p.logs(), "could not accept a client; trying again") {
		t.Error("descriptors were used up")
	}
}
