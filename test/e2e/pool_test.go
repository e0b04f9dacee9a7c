//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// startPool starts a proxy with a pool.
func startPool(t testing.TB, cluster *aurora.Cluster, more ...string) *process {
	t.Helper()
	return startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, append([]string{"--pool=4"}, more...)...)...)
}

// keeps counts the sessions so far whose connection was kept.
func (p *process) keeps() int { return strings.Count(p.logs(), `"kept":true`) }

// guest is a session that may reuse a server connection. Its queries are simple ones, which
// leave no state.
func (p *process) guest(t *testing.T, user string, more ...string) *pgx.Conn {
	t.Helper()
	return mustConnect(t, p.conninfo(user, aurora.Database)+" default_query_exec_mode=simple_protocol "+strings.Join(more, " "))
}

// leave ends a session, and waits until its connection is kept.
func (p *process) leave(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	before := p.keeps()
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	until(t, "the connection to be kept", func() bool { return p.keeps() > before })
}

// next returns a session on the connection of the first one, which no other parameters lead
// to.
func (p *process) next(t *testing.T, user, name string, first func(*pgx.Conn)) *pgx.Conn {
	t.Helper()
	conn := p.guest(t, user, "application_name="+name)
	process := pid(t, conn)
	first(conn)
	p.leave(t, conn)
	next := p.guest(t, user, "application_name="+name)
	if pid(t, next) != process {
		t.Fatal("the next client has another connection, which proves nothing")
	}
	return next
}

// pid returns the id of the server process, which identifies the connection.
func pid(t *testing.T, conn *pgx.Conn) string { return show(t, conn, "select pg_backend_pid()") }

// show returns the result of a query: one value, or the code of an error.
func show(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	if err != nil {
		if code := sqlState(err); code != "" {
			return code
		}
		t.Fatalf("%s: %v", sql, err)
	}
	last := results[len(results)-1]
	if len(last.Rows) == 0 {
		return ""
	}
	if last.Rows[0][0] == nil {
		return "NULL"
	}
	return string(last.Rows[0][0])
}

// sqlState returns the code of an error, if it has one.
func sqlState(err error) string {
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) {
		return refusal.Code
	}
	return ""
}

// The state of a session is reset before the next.
func TestPoolResetsState(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	admin := connectAdmin(t, cluster)
	for _, sql := range []string{
		"create role app", "grant app to " + aurora.IAMUser,
		"create role login_as_app login in role rds_iam, app", "alter role login_as_app set role = app", "alter role login_as_app set work_mem = '9MB'",
		"create role super superuser login in role rds_iam", "grant rds_iam to super",
		"create sequence numbers", "grant all on sequence numbers to public",
		"grant create on schema public to public", "create table lines (line text)", "grant all on lines to public",
	} {
		mustExec(t, admin, sql)
	}
	p := startPool(t, cluster)
	for _, test := range []struct {
		name string
		user string // if not IAMUser
		does []string
		see  string
		now  string // in the first session
		next string
	}{
		{"temporary table", "", []string{"create temp table leak (n int)"}, "select to_regclass('leak')", "leak", "NULL"},
		{"temporary view", "", []string{"create temp view leak as select 1"}, "select to_regclass('leak')", "leak", "NULL"},
		{"temporary function", "", []string{"create function pg_temp.leak() returns int language sql as 'select 1'"}, "select pg_temp.leak()", "1", "42883"},
		{"prepared statement", "", []string{"prepare leak as select 1"}, "select count(*) from pg_prepared_statements", "1", "0"},
		{"advisory lock", "", []string{"select pg_advisory_lock(1)", "select pg_advisory_lock_shared(2)"}, "select count(*) from pg_locks where locktype = 'advisory'", "2", "0"},
		{"LISTEN", "", []string{"listen leak"}, "select string_agg(c, ',') from pg_listening_channels() c", "leak", "NULL"},
		{"SET", "", []string{"set work_mem = '7MB'"}, "show work_mem", "7MB", "4MB"},
		{"SET of what is reported", "", []string{"set intervalstyle = 'iso_8601'"}, "show intervalstyle", "iso_8601", "postgres"},
		{"SET of a setting of its own", "", []string{"set my.tenant = 'secret'"}, "select current_setting('my.tenant', true)", "secret", ""},
		{"set_config", "", []string{"select set_config('search_path', 'elsewhere', false)"}, "show search_path", "elsewhere", `"$user", public`},
		{"session characteristics", "", []string{"set session characteristics as transaction read only, isolation level serializable"},
			"select current_setting('transaction_read_only') || current_setting('transaction_isolation')", "onserializable", "offread committed"},
		{"SET ROLE", "", []string{"set role app"}, "select current_user", "app", aurora.IAMUser},
		{"SET ROLE of who has one", "login_as_app", []string{"set role none"}, "select current_user", "login_as_app", "app"},
		{"settings of the user", "login_as_app", []string{"set work_mem = '7MB'"}, "show work_mem", "7MB", "9MB"},
		{"SET SESSION AUTHORIZATION", "super", []string{"set session authorization app"}, "select session_user || current_user", "appapp", "supersuper"},
		{"currval", "", []string{"select nextval('numbers')"}, "select currval('numbers') > 0", "t", "55000"},
		{"lastval", "", []string{"select nextval('numbers')"}, "select lastval() > 0", "t", "55000"},
		{"cursor WITH HOLD", "", []string{"begin", "declare leak cursor with hold for select generate_series(1, 1000)", "commit", "fetch 10 from leak"}, "select count(*) from pg_cursors", "1", "0"},
		{"a failed statement", "", []string{"select 1/0"}, "select 1", "1", "1"},
		{"a transaction that was rolled back", "", []string{"begin", "select 1/0", "rollback"}, "select 1", "1", "1"},
		{"COPY", "", []string{"copy (select generate_series(1, 100)) to stdout"}, "select 1", "1", "1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.t = t
			user := test.user
			if user == "" {
				user = aurora.IAMUser
			}
			next := p.next(t, user, "guest", func(first *pgx.Conn) {
				for _, sql := range test.does {
					show(t, first, sql)
				}
				if got := show(t, first, test.see); got != test.now {
					t.Errorf("the first client sees %q, want %q", got, test.now)
				}
			})
			if got := show(t, next, test.see); got != test.next {
				t.Errorf("the next client sees %q, want %q", got, test.next)
			}
			p.leave(t, next)
		})
	}
	p.t = t
}

// DISCARD ALL keeps the state that docs/pool.md lists.
func TestPoolKeepsListedState(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	admin := connectAdmin(t, cluster)
	for _, sql := range []string{
		"create role super superuser login in role rds_iam", "grant rds_iam to super",
		"select pg_replication_origin_create('origin')", "create extension dblink",
	} {
		mustExec(t, admin, sql)
	}
	p := startPool(t, cluster)
	socket := "host=" + admin.Config().Host + " port=" + fmt.Sprint(admin.Config().Port) + " user=rdsadmin dbname=postgres"
	for i, test := range []struct{ name, does, see, fresh, next string }{
		{"that a setting of one's own was set", "set my.tenant = 'secret'", "select current_setting('my.tenant', true)", "NULL", ""},
		{"libraries", "load 'auto_explain'", "select count(*) from pg_settings where name = 'auto_explain.log_level'", "0", "1"},
		{"dblink", "select dblink_connect('far', '" + socket + "')", "select coalesce(array_length(dblink_get_connections(), 1), 0)", "0", "1"},
		{"replication origin", "select pg_replication_origin_session_setup('origin')", "select pg_replication_origin_session_is_setup()", "f", "t"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.t = t
			next := p.next(t, "super", fmt.Sprint("a", i), func(first *pgx.Conn) {
				if got := show(t, first, test.see); got != test.fresh {
					t.Errorf("a fresh session sees %q, want %q", got, test.fresh)
				}
				show(t, first, test.does)
			})
			if got := show(t, next, test.see); got != test.next {
				t.Errorf("the next client sees %q, want %q", got, test.next)
			}
		})
	}
	t.Run("seed of random()", func(t *testing.T) {
		p.t = t
		next := p.next(t, "super", "seed", func(first *pgx.Conn) { show(t, first, "select setseed(0.5)") })
		fresh := p.guest(t, "super", "application_name=fresh")
		show(t, fresh, "select setseed(0.5)")
		if got, want := show(t, next, "select random()"), show(t, fresh, "select random()"); got != want {
			t.Errorf("the next client's number is %s, want %s", got, want)
		}
	})
	t.Run("settings as of the login", func(t *testing.T) {
		p.t = t
		next := p.next(t, aurora.OtherUser, "settings", func(*pgx.Conn) {
			mustExec(t, admin, "alter role "+aurora.OtherUser+" set work_mem = '7MB'")
		})
		if got := show(t, next, "show work_mem"); got != "4MB" {
			t.Errorf("the next client sees %q", got)
		}
	})
	p.t = t
}

// Connections are reused for the same user, database and startup parameters only.
func TestPoolParameters(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	mustExec(t, connectAdmin(t, cluster), "create database other")
	p := startPool(t, cluster, "--pool=10")
	processes := map[string]bool{}
	for _, conninfo := range []string{
		p.conninfo(aurora.IAMUser, aurora.Database),
		p.conninfo(aurora.OtherUser, aurora.Database),
		p.conninfo(aurora.IAMUser, "other"),
		p.conninfo(aurora.IAMUser, aurora.Database) + " application_name=a",
		p.conninfo(aurora.IAMUser, aurora.Database) + " options='-c work_mem=7MB'",
	} {
		conn := mustConnect(t, conninfo+" default_query_exec_mode=simple_protocol")
		process := pid(t, conn)
		if processes[process] {
			t.Errorf("%s leads to the connection of another", conninfo)
		}
		processes[process] = true
		p.leave(t, conn)
		again := mustConnect(t, conninfo+" default_query_exec_mode=simple_protocol")
		if pid(t, again) != process {
			t.Errorf("%s does not lead to its own connection", conninfo)
		}
		p.leave(t, again)
	}
}

// A closed server connection is replaced without an error for the client.
func TestPoolReplacesClosed(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startPool(t, cluster)
	t.Run("terminated", func(t *testing.T) {
		p.t = t
		first := p.guest(t, aurora.IAMUser)
		process := pid(t, first)
		p.leave(t, first)
		admin := connectAdmin(t, cluster)
		mustExec(t, admin, "select pg_terminate_backend("+process+", 10000)")
		if next := p.mustPSQL(aurora.IAMUser, aurora.Database, "select pg_backend_pid()"); next == process {
			t.Error("the same process")
		}
	})
	t.Run("restarted", func(t *testing.T) {
		p.t = t
		p.leave(t, p.guest(t, aurora.IAMUser))
		if err := cluster.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	})
	t.Run("crashed", func(t *testing.T) {
		p.t = t
		p.leave(t, p.guest(t, aurora.IAMUser))
		if err := cluster.Stop(t.Context(), aurora.Immediate); err != nil {
			t.Fatal(err)
		}
		if err := cluster.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	})
	t.Run("demoted", func(t *testing.T) { // in a failover
		p.t = t
		p.leave(t, p.guest(t, aurora.IAMUser))
		if err := cluster.StartAsStandby(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := p.retries()
		ended := p.startPSQL(isReadOnly)
		until(t, "the standby to be found one", func() bool { return p.retries() > before })
		if err := cluster.Promote(t.Context()); err != nil {
			t.Fatal(err)
		}
		expectPrinted(t, ended, "off")
	})
	p.t = t
}

// Idle server connections do not delay the end of the process.
func TestPoolStopsAtOnce(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startPool(t, cluster)
	a, b := p.guest(t, aurora.IAMUser), p.guest(t, aurora.IAMUser)
	p.leave(t, a)
	p.leave(t, b)
	began := time.Now()
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 || time.Since(began) > 10*time.Second {
		t.Errorf("ended with %d after %v", code, time.Since(began))
	}
	admin := connectAdmin(t, cluster)
	until(t, "the server's processes to end", func() bool {
		return show(t, admin, "select count(*) from pg_stat_activity where usename = '"+aurora.IAMUser+"'") == "0"
	})
}

// All kinds of clients work with a pool.
func TestPoolClients(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startPool(t, cluster)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *aurora.Cluster, *process)
	}{
		{"newest protocol, query in the same segment", testNewestProtocol},
		{"cancel", testCancel},
		{"pgbench", testPgbench},
		{"pgbench, a connection each", testPgbenchReconnecting},
		{"refusals", func(t *testing.T, cluster *aurora.Cluster, p *process) {
			cluster.ResetVerdicts()
			testRefusals(t, cluster, p)
		}},
		{"hostile clients leave nothing behind", testHostileClients},
		{"startup parameters", testStartupParameters},
		{"asynchronous messages", testAsynchronousMessages},
		{"prepared statements", testPreparedStatements},
		{"pipeline", testPipeline},
		{"row of 100 MB", testLargeRow},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.t = t
			test.run(t, cluster, p)
		})
	}
	p.t = t
}

func testPgbenchReconnecting(t *testing.T, _ *aurora.Cluster, p *process) {
	before := p.keeps()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := client(ctx, "pgbench", "-n", "-S", "-C", "-c", "4", "-j", "2", "-t", "100", "-h", "127.0.0.1", "-p", p.port(), "-U", aurora.IAMUser, aurora.Database)
	if out, err := combinedOutput(t, cmd); err != nil {
		t.Fatalf("pgbench: %v: %s", err, out)
	}
	until(t, "all connections to be kept", func() bool { return p.keeps() >= before+400 })
}

// Clients that set state concurrently never see that of others.
func TestPoolUnderLoad(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	admin := connectAdmin(t, cluster)
	for _, sql := range []string{"create role app", "grant app to " + aurora.IAMUser, "create sequence numbers", "grant all on sequence numbers to public"} {
		mustExec(t, admin, sql)
	}
	p := startPool(t, cluster, "--log-level=info")
	const clients, sessions = 8, 40
	const clean = "select to_regclass('leak') is null and current_user = '" + aurora.IAMUser + "' and current_setting('work_mem') = '4MB'" +
		" and coalesce(current_setting('my.tenant', true), '') = '' and (select count(*) from pg_prepared_statements) = 0" +
		" and (select count(*) from pg_cursors) = 0 and (select count(*) from pg_listening_channels()) = 0" +
		" and not exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())"
	const mess = "create temp table leak (n int); prepare leak as select 1; listen leak; set work_mem = '7MB'; set my.tenant = 'secret';" +
		" begin; declare leak cursor with hold for select 1; commit; select nextval('numbers'), pg_advisory_lock_shared(1); set role app"
	var processes sync.Map
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for j := range sessions {
				conn, err := pgx.Connect(t.Context(), p.conninfo(aurora.IAMUser, aurora.Database)+" default_query_exec_mode=simple_protocol")
				if err != nil {
					t.Error(err)
					return
				}
				if got := show(t, conn, clean); got != "t" {
					t.Errorf("client %d, session %d: it is not clean: %s", i, j, got)
				}
				if got := show(t, conn, "select lastval()"); got != "55000" {
					t.Errorf("client %d, session %d: it has a last value: %s", i, j, got)
				}
				processes.Store(show(t, conn, "select pg_backend_pid()"), true)
				show(t, conn, mess)
				if j%5 == 4 { // without Terminate
					show(t, conn, "begin")
				}
				_ = conn.Close(t.Context())
			}
		})
	}
	all.Wait()
	n := 0
	processes.Range(func(any, any) bool { n++; return true })
	if n > clients*sessions/2 {
		t.Errorf("%d connections for %d sessions", n, clients*sessions)
	}
	t.Logf("%d connections for %d sessions", n, clients*sessions)
}

// A Flush after the last Sync, as psycopg sends it for executemany and pipelines, requests
// nothing: the connection is kept.
func TestReportPoolFlushAfterSync(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startPool(t, cluster)
	s := startRaw(t, p, pgproto3.ProtocolVersion30, nil)
	for _, message := range []pgproto3.FrontendMessage{
		&pgproto3.Parse{Query: "select 'in'"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}, &pgproto3.Flush{},
	} {
		s.send(message)
	}
	if value, code := s.untilReady(); value != "in" {
		t.Errorf("got %q, %s", value, code)
	}
	s.send(&pgproto3.Terminate{})
	until(t, "the connection to be kept", func() bool { return p.keeps() == 1 })
}
