//go:build unix

package e2e

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

const endSessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'"

// startEndangered starts a cluster in which a grant to app locks out the administrator.
func startEndangered(t *testing.T, settings map[string]string) *aurora.Cluster {
	t.Helper()
	cluster := startGrantableWith(t, settings)
	asSuperuser(t, cluster, "CREATE ROLE app LOGIN", "GRANT app TO postgres")
	return cluster
}

// wantUndone fails unless neither app nor its member has rds_iam.
func wantUndone(t *testing.T, cluster *aurora.Cluster) {
	t.Helper()
	var roles int
	const sql = "SELECT count(*) FROM pg_roles WHERE pg_has_role(oid, 'rds_iam', 'member') AND rolname IN ('app', 'postgres')"
	if err := superuser(t, cluster).QueryRow(t.Context(), sql).Scan(&roles); err != nil || roles != 0 {
		t.Errorf("%d roles have rds_iam: %v", roles, err)
	}
}

// untilWaiting waits until n sessions of the administrator wait for this event.
func untilWaiting(t *testing.T, cluster *aurora.Cluster, event string, n int) {
	t.Helper()
	conn := superuser(t, cluster)
	until(t, "sessions that wait: "+event, func() bool {
		var waiting int
		err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE usename = 'postgres' AND wait_event = $1", event).Scan(&waiting)
		return err == nil && waiting == n
	})
}

// startHeldCommits is startEndangered, but the administrator's commits wait for a missing
// standby.
func startHeldCommits(t *testing.T) *aurora.Cluster {
	t.Helper()
	cluster := startEndangered(t, map[string]string{"synchronous_standby_names": "nobody"})
	asSuperuser(t, cluster, "ALTER ROLE postgres SET synchronous_commit = on")
	return cluster
}

// A signal before the first change ends it at once.
func TestGrantSignalBefore(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	if _, err := superuser(t, cluster).Exec(t.Context(), "SELECT pg_advisory_lock($1)", grantLock); err != nil {
		t.Fatal(err)
	}
	g := startGrant(t, cluster, nil, "--user=app", "--timeout=10m")
	untilWaiting(t, cluster, "advisory", 1)
	g.terminate(t)
	g.wait(t).wantFailure(t, "stopped by a signal; nothing is changed")
}

// A signal during the commit does not leave the administrator locked out.
func TestGrantSignalDuringCommit(t *testing.T) {
	t.Parallel()
	cluster := startHeldCommits(t)
	g := startGrant(t, cluster, nil, "--user=app", "--give-up-password=app")
	untilWaiting(t, cluster, "SyncRep", 1)
	g.terminate(t)
	asSuperuser(t, cluster, "ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()")
	g.wait(t).wantFailure(t, "undone", "member of a role")
	wantUndone(t, cluster)
}

// If the result of the commit is unknown, the error has the SQL to repair it.
func TestGrantConnectionLostDuringCommit(t *testing.T) {
	t.Parallel()
	cluster := startHeldCommits(t)
	g := startGrant(t, cluster, nil, "--user=app", "--give-up-password=app")
	untilWaiting(t, cluster, "SyncRep", 1)
	asSuperuser(t, cluster, endSessions)
	g.wait(t).wantFailure(t, "the outcome is unknown; run the same command again", `if "postgres" cannot log in then, another administrator can run: REVOKE rds_iam FROM "app"`)
}

// Neither does a signal between commit and undo.
func TestGrantSignalDuringLogin(t *testing.T) {
	t.Parallel()
	cluster := startEndangered(t, nil)
	held := holdSecond(t, cluster.Addr(), cluster.Addr())
	g := startGrant(t, cluster, nil, "--user=app", "--give-up-password=app", "--via="+held.address)
	<-held.arrived
	g.terminate(t)
	close(held.release)
	g.wait(t).wantFailure(t, "undone", "could no longer log in", "member of a role")
	wantUndone(t, cluster)
}

// Neither does a limit on idle sessions: the session that can undo it outlives the limit.
func TestGrantIdlesDuringLogin(t *testing.T) {
	t.Parallel()
	cluster := startEndangered(t, nil)
	asSuperuser(t, cluster, "ALTER ROLE postgres SET idle_session_timeout = '3s'")
	held := holdSecond(t, cluster.Addr(), cluster.Addr())
	g := startGrant(t, cluster, nil, "--user=app", "--give-up-password=app", "--via="+held.address)
	<-held.arrived
	witness := superuser(t, cluster)
	if _, err := witness.Exec(t.Context(), "SET idle_session_timeout = '3s'"); err != nil {
		t.Fatal(err)
	}
	if _, err := witness.PgConn().Conn().Read(make([]byte, 1)); err != nil { // until it is terminated
		t.Fatal(err)
	}
	close(held.release)
	g.wait(t).wantFailure(t, "undone", "could no longer log in")
	wantUndone(t, cluster)
}

// If the administrator's login cannot be tried, the grant is undone.
func TestGrantConnectionLostDuringLogin(t *testing.T) {
	t.Parallel()
	cluster := startEndangered(t, nil)
	held := holdSecond(t, cluster.Addr(), "127.0.0.1:1")
	close(held.release)
	grant(t, cluster, nil, "--user=app", "--give-up-password=app", "--via="+held.address).wantFailure(t, "undone", "the test login of administrator", "run the same command again")
	wantUndone(t, cluster)
}

// If it cannot be undone, the error has the SQL for another administrator.
func TestGrantCannotUndo(t *testing.T) {
	t.Parallel()
	cluster := startEndangered(t, nil)
	held := holdSecond(t, cluster.Addr(), cluster.Addr())
	g := startGrant(t, cluster, nil, "--user=app", "--give-up-password=app", "--via="+held.address)
	<-held.arrived
	asSuperuser(t, cluster, endSessions)
	close(held.release)
	g.wait(t).wantFailure(t, `administrator "postgres" may be locked out`, `another administrator can run: REVOKE rds_iam FROM "app"`)
}

// heldConnections are forwarded, one of them only after its release.
type heldConnections struct {
	address          string
	arrived, release chan struct{}
}

func holdSecond(t *testing.T, first, second string) *heldConnections {
	t.Helper()
	return holdNth(t, 2, first, second)
}

// holdNth forwards connections to address, but holds the nth.
func holdNth(t *testing.T, nth int, others, address string) *heldConnections {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &heldConnections{address: listener.Addr().String(), arrived: make(chan struct{}), release: make(chan struct{})}
	var connections sync.WaitGroup
	t.Cleanup(connections.Wait)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for n := 1; ; n++ {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			to := others
			if n == nth {
				close(h.arrived)
				<-h.release
				to = address
			}
			connections.Go(func() { join(client, to) })
		}
	}()
	return h
}

// join copies until one of the connections ends.
func join(client net.Conn, to string) {
	defer client.Close()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	_, _ = io.Copy(client, server)
}

// The settings of the database's owner do not run as the administrator.
func TestGrantHostileDatabase(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	asSuperuser(t, cluster, "CREATE SCHEMA evil", "GRANT USAGE ON SCHEMA evil TO PUBLIC",
		"CREATE TABLE evil.seen (who name)", "GRANT INSERT ON evil.seen TO PUBLIC",
		`CREATE FUNCTION evil.eq(name, name) RETURNS boolean LANGUAGE plpgsql AS
			$$ BEGIN INSERT INTO evil.seen VALUES (session_user); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$`,
		"CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = name, RIGHTARG = name)",
		"ALTER DATABASE postgres SET search_path = evil, pg_catalog",
		"ALTER DATABASE postgres SET default_transaction_read_only = on",
		"ALTER DATABASE postgres SET default_transaction_isolation = serializable",
		"ALTER ROLE postgres SET client_encoding = LATIN1")
	grant(t, cluster, nil, "--user=app,wé5").want(t, `created role "app"`, `granted rds_iam to "app"`, `created role "wé5"`, `granted rds_iam to "wé5"`)
	var seen int
	var there bool
	err := superuser(t, cluster).QueryRow(t.Context(),
		"SELECT count(*), EXISTS (SELECT FROM pg_roles WHERE rolname OPERATOR(pg_catalog.=) 'wé5') FROM evil.seen").Scan(&seen, &there)
	if err != nil || seen != 0 || !there {
		t.Errorf("the owner's function ran %d times; wé5 is there: %v; %v", seen, there, err)
	}
}

// Objects created concurrently, in any database, are found.
func TestGrantConcurrentObjects(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	tx, err := superuser(t, cluster).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "CREATE ROLE app LOGIN"); err != nil {
		t.Fatal(err)
	}
	g := startGrant(t, cluster, nil, "--user=first,app", "--give-up-password=app")
	untilWaiting(t, cluster, "transactionid", 1)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended := g.wait(t)
	if want := "created role \"first\"\ngranted rds_iam to \"first\"\ngranted rds_iam to \"app\"\n"; ended.code != 0 || ended.stdout != want {
		t.Errorf("got %+v, want %q", ended, want)
	}
}

// Runs in two databases do not see each other's advisory locks. Those that come first in
// each database are held until both create the same roles, in either order.
func TestGrantConcurrentlyInTwoDatabases(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	tx, err := superuser(t, cluster).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "CREATE ROLE app"); err != nil {
		t.Fatal(err)
	}
	var all []*runningGrant
	for range 3 {
		all = append(all, startGrant(t, cluster, nil, "--user=app,other", "--database=postgres"),
			startGrant(t, cluster, nil, "--user=other,app", "--database="+aurora.Database))
	}
	untilWaiting(t, cluster, "transactionid", 2)
	untilWaiting(t, cluster, "advisory", len(all)-2)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	created := 0
	for _, running := range all {
		g := running.wait(t)
		if g.code != 0 || g.stderr != "" {
			t.Errorf("got %+v", g)
		}
		created += strings.Count(g.stdout, "created role")
	}
	if created != 2 {
		t.Errorf("%d roles created", created)
	}
}

// A grant that would end the password login of an existing user or of its members changes
// nothing, until --give-up-password names the user.
func TestGrantEndsPasswordLogins(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	const password = "of the application"
	asSuperuser(t, cluster, "CREATE ROLE legacy LOGIN PASSWORD "+quoteText(password),
		"CREATE ROLE app LOGIN", "CREATE ROLE team NOLOGIN IN ROLE app", "CREATE ROLE zed SUPERUSER LOGIN IN ROLE app",
		"CREATE ROLE a LOGIN IN ROLE app", "CREATE ROLE b LOGIN IN ROLE team", "CREATE ROLE c LOGIN IN ROLE app, rds_iam",
		"CREATE ROLE tokens NOLOGIN IN ROLE rds_iam", "CREATE ROLE indirect LOGIN IN ROLE tokens")
	for _, args := range [][]string{
		{"--user=legacy"},
		{"--user=new,legacy"},
		{"--user=new,legacy,app", "--give-up-password=app,new"},
		{"--user=legacy", "--database=postgres", "--privileges=readonly"},
	} {
		g := grant(t, cluster, nil, args...)
		if g.code != 2 || g.stdout != "" || !strings.Contains(g.stderr, `granting rds_iam to the existing user "legacy" would end the password logins of "legacy"`) ||
			!strings.HasSuffix(g.stderr, "--give-up-password legacy\n") {
			t.Errorf("%q: got %+v", args, g)
		}
	}
	g := grant(t, cluster, nil, "--user=app,legacy")
	if g.code != 2 || !strings.Contains(g.stderr, `the password logins of "app", "a", "b", "zed", and granting`) || !strings.HasSuffix(g.stderr, "--give-up-password app,legacy\n") {
		t.Errorf("got %+v", g)
	}
	var changed int
	conn := superuser(t, cluster)
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_auth_members WHERE member::regrole::text IN ('app', 'legacy', 'new') OR to_regrole('new') IS NOT NULL").Scan(&changed); err != nil || changed != 0 {
		t.Errorf("%d memberships: %v", changed, err)
	}
	// The password still works: legacy logs in, and fails because it may not create roles.
	grant(t, cluster, []string{"PGPASSWORD=" + password}, "--user=new", "--admin-user=legacy").wantFailure(t, "permission denied")

	grant(t, cluster, nil, "--user=indirect").want(t, `granted rds_iam to "indirect"`)
	g = grant(t, cluster, nil, "--user=app,legacy", "--give-up-password=legacy,app")
	const want = "iamproxy: note: password logins end for \"app\", \"a\", \"b\", \"zed\": from now on only tokens are accepted\n" +
		"iamproxy: note: password logins end for \"legacy\": from now on only tokens are accepted\n"
	if g.code != 0 || g.stderr != want {
		t.Errorf("got %+v, want the notes %q", g, want)
	}
	grant(t, cluster, nil, "--user=app,legacy", "--give-up-password=legacy").want(t, `"app" already has rds_iam`, `"legacy" already has rds_iam`)
}
