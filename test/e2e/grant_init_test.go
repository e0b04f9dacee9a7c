//go:build unix

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// writeSQL returns the path of a file.
func writeSQL(t *testing.T, sql string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "init.sql")
	if err := os.WriteFile(file, []byte(sql), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func initArgs(file string, more ...string) []string {
	return append([]string{"--user=app", "--database=" + shop, "--init=" + file}, more...)
}

// The file runs each time, after the privileges, which cover its new objects.
func TestGrantInit(t *testing.T) {
	t.Parallel()
	cluster := startShop(t)
	file := writeSQL(t, "\ufeff-- what; is 'needed'\nCREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, what text DEFAULT $$;$$);\n"+
		"CREATE OR REPLACE FUNCTION hello() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN 'hello; world'; END $$;\n"+
		"INSERT INTO orders DEFAULT VALUES;\nSELECT count(*) FROM orders;\n")
	args := initArgs(file, "--privileges=readonly")
	first := grant(t, cluster, nil, args...)
	if lines := strings.Split(strings.TrimSpace(first.stdout), "\n"); first.code != 0 || first.stderr != "" || lines[len(lines)-1] != "ran "+file {
		t.Errorf("got %+v", first)
	}
	grant(t, cluster, nil, args...).want(t,
		`"app" already has rds_iam`,
		`"app" already has readonly on database "shop"`,
		`"app" already has readonly on schema "public"`,
		`"app" already has readonly on 1 table in schema "public"`,
		`"app" already has readonly on 1 sequence in schema "public"`,
		`default privileges: "app" already has readonly on future tables and sequences of "postgres" in schema "public"`,
		"ran "+file)
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	if out := p.mustPSQL("app", shop, "SELECT hello(), count(*), min(what) FROM orders"); out != "hello; world|2|;" {
		t.Errorf("printed %q", out)
	}

	cmd := exec.CommandContext(t.Context(), binaryPath(t), "grant", aurora.DefaultHost, "--via="+cluster.Addr(), "--ca-file="+cluster.CAFile(),
		"--user=app", "--database="+shop, "--init=-")
	cmd.Env = bareEnvironment("PGPASSWORD=" + adminPassword)
	cmd.Stdin = strings.NewReader("TRUNCATE orders")
	if out, err := combinedOutput(t, cmd); err != nil || !strings.HasPrefix(string(out), "\"app\" already has rds_iam\nran standard input\nnext: ") {
		t.Errorf("printed %q: %v", out, err)
	}
}

// The run is atomic, whatever is in the file, and no error has its text.
func TestGrantInitFailures(t *testing.T) {
	t.Parallel()
	cluster := startShop(t)
	inShop(t, cluster, "postgres", "CREATE TABLE there (x int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)")
	for _, test := range []struct {
		sql  string
		want []string
	}{
		{"SELECT 1;\nSELECT 'é';\nSELEC 'TOPSECRET'", []string{`line 3: syntax error at or near "..." (42601); nothing is changed`}},
		{"SELECT 1;\n SELECT 1 'TOPSECRET'", []string{`line 2: syntax error at or near "..."`}},
		{"SELECT 'TOPSECRET\"'::int", []string{`line 1: invalid input syntax for type integer: "..." (22P02)`}},
		{`SELECT "TOPSECRET"`, []string{`line 1: column "..." does not exist`}},
		{"\n\nSELECT * FROM nowhere", []string{`line 3: relation "nowhere" does not exist (42P01)`}},
		{"INSERT INTO there VALUES (7), (7)", []string{"duplicate key value violates unique constraint", "(23505); nothing is changed"}},
		{"BEGIN; CREATE TABLE t (); COMMIT;", []string{"remove BEGIN, COMMIT and similar commands"}},
		{"CREATE TABLE t (); COMMIT; CREATE TABLE u (); BEGIN", []string{"remove BEGIN, COMMIT and similar commands"}},
		{"ROLLBACK", []string{"remove BEGIN, COMMIT and similar commands"}},
		{"CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$; CALL p()", []string{"invalid transaction termination (2D000)"}},
		{"CREATE TABLE t (x int);\nCOPY t FROM STDIN;\n1\n\\.\n", []string{"syntax error"}},
		{"CREATE TABLE t (x int); COPY t FROM STDIN", []string{"COPY from or to the client is not possible here: use INSERT"}},
		{"SELECT 1;\n\\connect other\n", []string{"line 2: ", "this is a command of psql"}},
		{"VACUUM there", []string{"cannot", "(25001); run this statement separately"}},
		{"CREATE INDEX CONCURRENTLY ON there (x)", []string{"cannot", "(25001); run this statement separately"}},
		{"CREATE ROLE boss SUPERUSER", []string{"must be superuser", "nothing is changed"}},
		{"DO $$ BEGIN RAISE 'no % more', 'room'; END $$", []string{"no room more (P0001)"}},
		{"SET search_path = 'x", []string{"unterminated quoted string"}},
	} {
		g := grant(t, cluster, nil, initArgs(writeSQL(t, test.sql), "--privileges=owner")...)
		g.wantFailure(t, append(test.want, "init.sql")...)
		if strings.Contains(g.stderr, "TOPSECRET") {
			t.Errorf("the file is in what it printed: %+v", g)
		}
	}
	grant(t, cluster, nil, initArgs(writeSQL(t, "SELECT pg_sleep(600)"), "--timeout=2s")...).wantFailure(t, "--timeout")
	var left int
	err := shopAs(t, cluster, "postgres").QueryRow(t.Context(),
		"SELECT (SELECT count(*) FROM pg_roles WHERE rolname = 'app') + (SELECT count(*) FROM pg_class WHERE relname IN ('t', 'u'))").Scan(&left)
	if err != nil || left != 0 {
		t.Errorf("%d things are left: %v", left, err)
	}
}

// The settings of the file do not affect iamproxy, and those of the database do not affect
// the file.
func TestGrantInitSettings(t *testing.T) {
	t.Parallel()
	cluster := startShop(t)
	asSuperuser(t, cluster, "CREATE ROLE team", "GRANT team TO postgres",
		`ALTER DATABASE `+shop+` SET search_path = evil`)
	inShop(t, cluster, "rdsadmin", "CREATE SCHEMA evil", "GRANT USAGE ON SCHEMA evil TO PUBLIC", "CREATE TABLE evil.t (who int)",
		"CREATE FUNCTION evil.eq(name, name) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$",
		"CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = name, RIGHTARG = name)")
	inShop(t, cluster, "postgres", `CREATE SCHEMA "My ""own"`, "CREATE TABLE public.t ()")
	file := writeSQL(t, `CREATE TABLE t (x int); INSERT INTO t VALUES (1); INSERT INTO t SELECT count(*) FROM public.t;
		SET ROLE team; SET search_path = evil, pg_catalog; SET statement_timeout = '1h'`)
	grant(t, cluster, nil, initArgs(file, `--schema=My "own,public`)...).want(t, `created role "app"`, `granted rds_iam to "app"`, "ran "+file)
	inShop(t, cluster, "postgres", `TABLE "My ""own".t`)
}

// The file may give the administrator a role with rds_iam. That is undone.
func TestGrantInitLockoutUndone(t *testing.T) {
	t.Parallel()
	cluster := startShop(t)
	file := writeSQL(t, "CREATE TABLE IF NOT EXISTS kept (); GRANT app TO postgres")
	grant(t, cluster, nil, initArgs(file, "--privileges=readonly")...).wantFailure(t, "the grants of rds_iam were undone, the other changes were not", "could no longer log in", "--give-up-password postgres")
	wantUndone(t, cluster)
	inShop(t, cluster, "postgres", "TABLE public.kept")

	again := writeSQL(t, "GRANT rds_iam TO CURRENT_USER")
	asSuperuser(t, cluster, "GRANT rds_iam TO app", "REVOKE app FROM postgres")
	grant(t, cluster, nil, initArgs(again)...).wantFailure(t, "were undone", "could no longer log in")
	grant(t, cluster, nil, "--user=app").want(t, `"app" already has rds_iam`) // a grant of another role
}

// The file may make an existing user a member of one that has rds_iam. That changes nothing, until
// --give-up-password names the existing one.
func TestGrantInitEndsPasswordLogins(t *testing.T) {
	t.Parallel()
	cluster := startShop(t)
	asSuperuser(t, cluster, "CREATE ROLE legacy LOGIN PASSWORD 'x'", "CREATE ROLE team NOLOGIN", "CREATE ROLE member LOGIN IN ROLE team",
		"CREATE ROLE later NOLOGIN", "CREATE ROLE tokens LOGIN IN ROLE rds_iam")
	for sql, want := range map[string]string{
		"GRANT app TO legacy":                                     `"legacy"`,
		"GRANT app TO team":                                       `"member"`,
		"GRANT rds_iam TO legacy, tokens":                         `"legacy"`,
		"ALTER ROLE legacy RENAME TO old; GRANT app TO old, team": `"member", "old"`,
	} {
		g := grant(t, cluster, nil, initArgs(writeSQL(t, sql))...)
		if g.code != 2 || g.stdout != "" || !strings.Contains(g.stderr, "a membership would end the password logins of "+want+":") {
			t.Errorf("%s: got %+v, want exit code 2 and %s", sql, g, want)
		}
	}
	file := writeSQL(t, "GRANT app TO legacy, tokens; ALTER ROLE later LOGIN; GRANT app TO later; CREATE ROLE another LOGIN IN ROLE app")
	g := grant(t, cluster, nil, initArgs(file, "--give-up-password=legacy")...)
	if g.code != 0 || g.stderr != "iamproxy: note: password logins end for \"legacy\": from now on only tokens are accepted\n" {
		t.Errorf("got %+v", g)
	}
}

// The recipe of docs/grant.md: existing objects change their owner to the user.
func TestGrantInitOwnership(t *testing.T) {
	t.Parallel()
	cluster := startShop(t)
	inShop(t, cluster, "postgres", "CREATE TABLE orders (id serial)")
	file := writeSQL(t, `GRANT "app" TO CURRENT_USER; ALTER TABLE orders OWNER TO "app"; REVOKE "app" FROM CURRENT_USER;`)
	grant(t, cluster, nil, initArgs(file, "--privileges=owner")...)
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	p.mustPSQL("app", shop, "ALTER TABLE orders ADD what text")
}

// The server stops as well when the command is interrupted.
func TestGrantInitInterrupted(t *testing.T) {
	t.Parallel()
	cluster := startShop(t)
	running := startGrant(t, cluster, nil, initArgs(writeSQL(t, "SELECT pg_sleep(600)"))...)
	conn := superuser(t, cluster)
	working := func() (n int) {
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'iamproxy grant' AND wait_event = 'PgSleep'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	until(t, "the file to be run", func() bool { return working() == 1 })
	running.terminate(t)
	running.wait(t).wantFailure(t, "stopped by a signal; nothing is changed")
	if n := working(); n != 0 {
		t.Error("it still works")
	}
}

// The file has its standard meaning, whatever the settings of the database.
func TestGrantInitIgnoresDatabaseSettings(t *testing.T) {
	t.Parallel()
	cluster := startShop(t)
	file := writeSQL(t, `CREATE TABLE said AS SELECT 'C:\new' AS path, extract(epoch FROM timestamptz '2026-01-02 00:00')::int AS at`)
	asSuperuser(t, cluster,
		"ALTER DATABASE "+shop+" SET standard_conforming_strings = off",
		"ALTER DATABASE "+shop+" SET TimeZone = 'Asia/Tokyo'",
		"ALTER DATABASE "+shop+" SET role = 'nobody at all'")
	grant(t, cluster, nil, initArgs(file)...).want(t, `created role "app"`, `granted rds_iam to "app"`, "ran "+file)
	conn, err := cluster.Admin(t.Context(), shop)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var path string
	var at int
	if err := conn.QueryRow(t.Context(), "SELECT path, at FROM public.said").Scan(&path, &at); err != nil || path != `C:\new` || at != 1767312000 {
		t.Errorf("stored %q and %d: %v", path, at, err)
	}
}

// A FIFO without a writer does not block it for ever.
func TestGrantInitFIFO(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	for _, flag := range []string{"--init=", "--password-file="} {
		fifo := filepath.Join(t.TempDir(), "fifo")
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		running := startGrant(t, cluster, nil, "--user=app", "--database="+shop, flag+fifo)
		writer, err := os.OpenFile(fifo, os.O_WRONLY, 0) // it has opened it, too, then
		if err != nil {
			t.Fatal(err)
		}
		running.terminate(t)
		if err := running.cmd.Wait(); err == nil || running.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
			t.Errorf("%s: ended with %v: %s", flag, err, running.stderr.String())
		}
		writer.Close()
	}
}
