//go:build unix

package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

// outcome is the output of psql.
type outcome struct {
	printed string
	err     error
}

// startPSQL runs one statement concurrently with the test.
func (p *process) startPSQL(statement string) <-chan outcome {
	ended := make(chan outcome, 1)
	go func() {
		printed, err := psqlAt(p.t, p.conninfo(aurora.IAMUser, aurora.Database), statement)
		ended <- outcome{printed, err}
	}()
	return ended
}

// expectPrinted waits for a psql that logs in.
func expectPrinted(t *testing.T, ended <-chan outcome, want string) {
	t.Helper()
	if o := <-ended; o.err != nil || o.printed != want {
		t.Errorf("psql: %v: %q, want %q", o.err, o.printed, want)
	}
}

// retries returns how often the proxy has logged that it retries a login.
func (p *process) retries() int {
	return strings.Count(p.logs(), `"msg":"login failed, retrying"`)
}

// refused returns the error of a login that must fail.
func (p *process) refused(user, database string) *pgconn.PgError {
	p.t.Helper()
	conn, err := p.connect(p.t.Context(), user, database)
	var refused *pgconn.PgError
	switch {
	case err == nil:
		conn.Close(p.t.Context())
		p.t.Fatalf("%s got in", user)
	case !errors.As(err, &refused):
		p.t.Fatalf("%s was told %v", user, err)
	}
	return refused
}

// A client that connects while the instance restarts receives no error.
func TestInstanceRestarts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		worked bool
	}{
		{"it has had sessions", true},
		{"it never had one", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, &aurora.Cluster{})
			p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
			if test.worked {
				p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
			}
			if err := cluster.Stop(t.Context(), aurora.Fast); err != nil {
				t.Fatal(err)
			}
			ended := p.startPSQL("select 'in'")
			until(t, "a login that failed", func() bool { return p.retries() > 0 })
			time.Sleep(2 * time.Second) // the duration of a restart
			if err := cluster.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			expectPrinted(t, ended, "in")
		})
	}
}

// An instance in recovery rejects logins with 57P03, which are retried.
func TestInstanceRecovers(t *testing.T) {
	t.Parallel()
	// It recovers from an archive without files. The restore command, which runs in the
	// data directory, waits until the file is removed.
	const gate = "archive-hangs"
	cluster := startCluster(t, &aurora.Cluster{Settings: map[string]string{
		"restore_command": "while [ -e " + gate + " ]; do sleep 0.05; done; false",
	}})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	var data string
	if err := connectAdmin(t, cluster).QueryRow(t.Context(), "show data_directory").Scan(&data); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{gate, "recovery.signal"} {
		if err := os.WriteFile(filepath.Join(data, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	restarted := make(chan error, 1)
	go func() { restarted <- cluster.Restart(t.Context()) }()
	until(t, "its being back", func() bool { return strings.Count(serverLog(t, cluster), "listening on IPv4") == 2 })
	ended := p.startPSQL("select 'in'")
	until(t, "57P03", func() bool { return strings.Contains(p.logs(), "57P03") && p.retries() > 1 })
	if err := os.Remove(filepath.Join(data, gate)); err != nil {
		t.Fatal(err)
	}
	if err := <-restarted; err != nil {
		t.Fatal(err)
	}
	expectPrinted(t, ended, "in")
}

func serverLog(t *testing.T, cluster *aurora.Cluster) string {
	t.Helper()
	log, err := cluster.Log()
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// connectionsReceived returns the number of connections over TCP.
func connectionsReceived(t *testing.T, cluster *aurora.Cluster) int {
	t.Helper()
	return strings.Count(serverLog(t, cluster), "connection received: host=127.0.0.1")
}

// Permanent errors are reported at once.
func TestPermanentErrors(t *testing.T) {
	t.Parallel()
	// Two are left besides the superuser's.
	cluster := startCluster(t, &aurora.Cluster{Settings: map[string]string{"max_connections": "5", "superuser_reserved_connections": "3"}})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	for _, test := range []struct {
		name, user, database string
		fill                 int // sessions that exist already
		code, message, hint  string
	}{
		{"no such database", aurora.IAMUser, "nowhere", 0, "3D000", `database "nowhere" does not exist`, ""},
		{"no rds_iam", aurora.PlainUser, aurora.Database, 0, "28000", `SCRAM authentication for user "plain_user"`, "Do not grant rds_iam to a user that still logs in with a password"},
		{"no such user", "nobody", aurora.Database, 0, "28000", `user "nobody"`, "does not exist"},
		{"too many connections", aurora.IAMUser, aurora.Database, 2, "53300", "remaining connection slots", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.t = t
			for range test.fill {
				until(t, "a connection slot", func() bool { // the server may still hold those of the logins before
					conn, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
					if err != nil {
						return false
					}
					t.Cleanup(func() { _ = conn.Close(context.Background()) })
					return true
				})
			}
			before := connectionsReceived(t, cluster)
			refused := p.refused(test.user, test.database)
			if refused.Code != test.code || !strings.Contains(refused.Message, test.message) || !strings.Contains(refused.Hint, test.hint) {
				t.Errorf("told %s: %s, hint %q", refused.Code, refused.Message, refused.Hint)
			}
			if n := connectionsReceived(t, cluster) - before; n != 1 {
				t.Errorf("%d attempts", n)
			}
		})
	}
	p.t = t
	if n := p.retries(); n != 0 {
		t.Errorf("%d logins were tried again", n)
	}
}

// A rejected token is followed by one retry with a fresh one, and by no more: a user
// without rds_iam must not look like an attack.
func TestRejectedTokenRetriedOnce(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	expect := func(t *testing.T, p *process, reason aurora.Reason, most int) {
		t.Helper()
		cluster.ResetVerdicts()
		p.t = t
		if refused := p.refused(aurora.IAMUser, aurora.Database); refused.Code != "28000" || refused.Hint == "" {
			t.Errorf("told %s: %s, hint %q", refused.Code, refused.Message, refused.Hint)
		}
		verdicts := cluster.Verdicts()
		if len(verdicts) == 0 || len(verdicts) > most {
			t.Errorf("%d verdicts, want at most %d", len(verdicts), most)
		}
		for _, v := range verdicts {
			if v.Reason != reason {
				t.Errorf("verdict %q, want %q", v.Reason, reason)
			}
		}
	}
	t.Run("wrong key", func(t *testing.T) {
		wrong := sigv4.Key{AccessKeyID: aurora.DefaultKey.AccessKeyID, SecretAccessKey: strings.Repeat("x", 40)}
		p := startProxy(t, keyEnvironment(wrong), clusterArgs(cluster)...)
		expect(t, p, aurora.Signature, 2)
	})
	t.Run("revoked key", func(t *testing.T) {
		p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
		p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
		cluster.ExpireKey(aurora.DefaultKey.AccessKeyID)
		expect(t, p, aurora.KeyExpired, 2)
		expect(t, p, aurora.KeyExpired, 2) // and no third
	})
}

// If the connection was always refused, it is retried for a third of --connect-timeout: the
// server may be about to start, but a mistake is more likely.
func TestConnectionRefused(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	if err := cluster.Stop(t.Context(), aurora.Fast); err != nil {
		t.Fatal(err)
	}
	const timeout = 3 * time.Second
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--connect-timeout="+timeout.String())...)
	began := time.Now()
	refused := p.refused(aurora.IAMUser, aurora.Database)
	took := time.Since(began)
	t.Logf("told after %v", took.Round(10*time.Millisecond))
	if refused.Code != "57P03" || !strings.Contains(refused.Message, "could not connect to "+aurora.DefaultHost) || !strings.Contains(refused.Message, "via "+cluster.Addr()) {
		t.Errorf("told %s: %s", refused.Code, refused.Message)
	}
	if took < timeout/3 {
		t.Errorf("told after %v, want at least a third of %v", took, timeout)
	}
	if p.retries() == 0 {
		t.Error("it was not tried again")
	}
}
