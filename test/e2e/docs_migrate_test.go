//go:build unix

package e2e

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// oldPassword is the password of the application's user in docs/migrate.md.
const oldPassword = "SECRET"

// migration is a database whose application has a user with a password, and a shell for the
// blocks of docs/migrate.md.
type migration struct {
	*pageShell
	cluster *aurora.Cluster
}

func startMigration(t *testing.T) *migration {
	t.Helper()
	cluster := startGrantable(t)
	asSuperuser(t, cluster, "ALTER DATABASE "+aurora.Database+" OWNER TO postgres")
	m := &migration{newPageShell(t, cluster, "migrate.md"), cluster}
	m.env = append(append(m.env, startPageAWS(t)...), "PGPASSWORD="+adminPassword)
	m.run(m.asAdmin("CREATE ROLE app LOGIN CONNECTION LIMIT 50 PASSWORD '"+oldPassword+"'",
		"GRANT CREATE ON DATABASE mydb TO app", "GRANT CREATE ON SCHEMA public TO app", "ALTER ROLE app SET search_path TO shop, public"),
		m.before(), query("CREATE SCHEMA shop", "CREATE TABLE orders (customer name, item text)", "INSERT INTO orders VALUES ('app', 'ours'), ('other', 'theirs')",
			"ALTER TABLE orders ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY", "CREATE POLICY own ON orders USING (customer = current_user)"))
	return m
}

var sqlBlock = regexp.MustCompile("(?ms)^```sql\n(.*?)^```$")

// sql returns the page's one block of SQL with all of these words.
func (m *migration) sql(words ...string) string {
	m.t.Helper()
	var found []string
	for _, block := range sqlBlock.FindAllStringSubmatch(m.page, -1) {
		if hasAll(block[1], words) {
			found = append(found, block[1])
		}
	}
	if len(found) != 1 {
		m.t.Fatalf("%d blocks of SQL with %q, want 1", len(found), words)
	}
	return found[0]
}

// before and after return the blocks that set the application's URL.
func (m *migration) before() string {
	return strings.ReplaceAll(m.block("DATABASE_URL", "SECRET"), aurora.DefaultHost+":5432", m.cluster.Addr())
}

func (m *migration) after() string { return m.block("DATABASE_URL", "app_iam") }

// query returns a command that executes statements as the application does.
func query(statements ...string) string {
	command := `psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -At`
	for _, sql := range statements {
		command += " -c " + quoteShell(sql)
	}
	return command
}

// atCluster lets a block connect to the stand-in in place of the endpoint.
func (m *migration) atCluster(block string) string {
	host, port, _ := net.SplitHostPort(m.cluster.Addr())
	return strings.ReplaceAll(block, "host="+aurora.DefaultHost, "sslmode=require host="+host+" port="+port)
}

// asAdmin returns a command that executes statements as the administrator.
func (m *migration) asAdmin(statements ...string) string {
	command := m.atCluster(`psql "host=` + aurora.DefaultHost + ` user=postgres dbname=mydb" -v ON_ERROR_STOP=1 -q`)
	for _, sql := range statements {
		command += " -c " + quoteShell(sql)
	}
	return command
}

// serve runs blocks while iamproxy runs.
func (m *migration) serve(blocks ...string) string {
	m.t.Helper()
	start := strings.Replace(m.block("iamproxy wait"), " &\n", " 2>iamproxy.log &\n", 1)
	return m.run(append(append([]string{start}, blocks...), "iamproxy shutdown")...)
}

func (m *migration) want(out string, lines ...string) {
	m.t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+out, "\n"+line+"\n") {
			m.t.Errorf("no line %q in %s", line, out)
		}
	}
}

// untilCounted is a command that has a session of the application, which ends when the file counted
// exists.
const untilCounted = `{ until [ -e counted ]; do sleep 0.1; done; } | psql "$DATABASE_URL" &`

// TestMigrate follows docs/migrate.md: the application works with its password until the last
// step, and with tokens from the second user on.
func TestMigrate(t *testing.T) {
	t.Parallel()
	m := startMigration(t)
	old, roles := query("SELECT item, session_user FROM orders"), query("SELECT item, session_user, current_user FROM orders")

	out := m.run(m.atCluster(m.block(`\drds app`)))
	if !hasAll(out, []string{"search_path=shop, public", "50 connections"}) {
		t.Errorf("printed %s", out)
	}
	m.put("app_iam.sql", m.sql("GRANT app TO app_iam")+m.sql("search_path"))
	create := m.block("--init app_iam.sql")
	m.want(m.run(create, m.before(), old), `created role "app_iam"`, "ours|app")
	m.want(m.run(create), `"app_iam" already has rds_iam`)
	if out := m.run(`aws() { printf '%s\n' "$@"; }`, m.block("put-role-policy")); !hasAll(out, []string{"put-role-policy\n", ":dbuser:cluster-ABCDEFGHIJKL01234/app_iam\""}) {
		t.Errorf("printed %s", out)
	}

	// The answer is that of the page.
	out = m.serve(m.block("iamproxy check"))
	m.want(out, `ok: user "app_iam" can log in to database "mydb"`)
	if !strings.Contains(out, `, current role "app"`+"\n") {
		t.Errorf("no current role in %s", out)
	}
	_, answer, _ := strings.Cut(m.page, "```\n session_user")
	answer, _, _ = strings.Cut(answer, "```")
	if !strings.Contains(out, " session_user"+answer) {
		t.Errorf("printed %s", out)
	}

	m.want(m.serve(m.after(), roles, query("CREATE TABLE migrated (id int)", "INSERT INTO orders VALUES ('app', 'new')"),
		query("SHOW search_path", "SELECT 'owner', tableowner FROM pg_tables WHERE tablename = 'migrated' AND schemaname = 'shop'",
			"SELECT 'limit', rolconnlimit FROM pg_roles WHERE rolname = 'app_iam'"),
		query("DISCARD ALL", "SELECT 'pooled', current_user"),
		fails(query("SELECT pg_cancel_backend(pg_backend_pid())")), query("SET ROLE NONE", "SELECT 'cancel', current_user"),
		// Each user has a session until both are counted. The session that counts is of app_iam, too.
		untilCounted, m.before(), untilCounted,
		"until "+strings.TrimSpace(m.block("pg_stat_activity"))+" >count && grep '^ app  *| *1$' count && grep '^ app_iam *| *2$' count; do sleep 0.1; done", ": >counted"),
		"ours|app_iam|app", "shop, public", "owner|app", "limit|50", "pooled|app", "cancel|app_iam")

	// Back to the password.
	m.want(m.run(m.before(), query("ALTER TABLE migrated ADD more int", "SELECT item, session_user FROM orders")), "new|app")

	// The end of the password.
	remove := m.sql("NOLOGIN")
	refused := fails(old)
	m.want(m.run(m.asAdmin(remove), m.before(), refused, m.asAdmin("ALTER ROLE app LOGIN"), old), "ours|app")
	m.want(m.serve(m.asAdmin(remove, m.sql("PASSWORD NULL")), m.before(), refused, m.after(), roles, query("ALTER TABLE migrated ADD last int")), "ours|app_iam|app")
	m.run(m.asAdmin("ALTER ROLE app LOGIN"), m.before(), refused)
}

// The first step can be undone.
func TestMigrateDropSecondUser(t *testing.T) {
	t.Parallel()
	m := startMigration(t)
	m.put("app_iam.sql", m.sql("GRANT app TO app_iam"))
	m.run(m.block("--init app_iam.sql"), m.asAdmin("DROP ROLE app_iam"), m.before(), query("SELECT FROM orders"))
}

var (
	taskSQL   = regexp.MustCompile(`"name": "SQL", "value": "([^"]+)"`)
	pageQuery = regexp.MustCompile(`(?s)\nquery "(.*?)"\n`)
)

// TestMigrateECS runs the SQL of the task of docs/ecs-migrate.md as grant does there: it creates
// the second user, and ends the logins of the old one. The queries of the page run as the new one.
func TestMigrateECS(t *testing.T) {
	t.Parallel()
	m := startMigration(t)
	read := func(file string) string {
		text, err := os.ReadFile(filepath.Join("..", "..", file))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	page := read("docs/ecs-migrate.md")
	first, last := taskSQL.FindStringSubmatch(read("deploy/ecs/migrate-task-definition.json")), taskSQL.FindStringSubmatch(page)
	if first == nil || last == nil {
		t.Fatal("no SQL in the task, or in the page")
	}
	grant := strings.Replace(m.block("--init app_iam.sql"), "app_iam.sql", "init.sql", 1)
	m.put("init.sql", first[1]+"\n")
	m.want(m.run(grant), `created role "app_iam"`)
	queries := pageQuery.FindAllStringSubmatch(page, -1)
	if len(queries) != 2 {
		t.Fatalf("%d queries in the page, want 2", len(queries))
	}
	settings, sessions := query(strings.ReplaceAll(queries[0][1], "\\\n", "")), query(queries[1][1])
	m.want(m.serve(m.after(), query("SELECT session_user, current_user"), settings, sessions), "app_iam|app", `|50|{"search_path=shop, public"}`, "app_iam|1")

	m.put("init.sql", last[1]+"\n")
	m.want(m.run(grant, m.before(), fails(query("SELECT 1"))), `"app_iam" already has rds_iam`)
	m.put("init.sql", "ALTER ROLE app LOGIN\n")
	m.run(grant, m.before(), query("SELECT 1"))

	if !strings.Contains(page, "`DROP ROLE app_iam`") {
		t.Error("the page does not show how to go back")
	}
	m.put("init.sql", "DROP ROLE app_iam\n")
	m.want(m.run(grant, m.before(), query("SELECT 'roles', count(*) FROM pg_roles WHERE rolname = 'app_iam'")), "roles|0")
}

// TestMigrateAtOnce follows the way with a maintenance window, and goes back.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	m := startMigration(t)
	session := query("SELECT item, current_user FROM orders")
	m.want(m.serve(m.block("--give-up-password app"), m.before(), fails(session), m.block("DATABASE_URL", "app@localhost"), session), "ours|app")
	m.want(m.run(m.asAdmin(m.sql("REVOKE rds_iam")), m.before(), session), "ours|app")
}

// testVersionMigrate tests memberships, the setting of the role and DISCARD ALL, which differ
// between versions. The administrator is the creator of the old user, as docs/migrate.md
// requires.
func testVersionMigrate(t *testing.T, s *versioned) {
	const admin = "master"
	asSuperuser(t, s.cluster, "CREATE ROLE "+admin+" LOGIN CREATEROLE PASSWORD "+quoteText(adminPassword), "GRANT rds_iam TO "+admin+" WITH ADMIN OPTION",
		"SET ROLE "+admin, "CREATE ROLE app LOGIN", "RESET ROLE")
	file := writeSQL(t, (&migration{pageShell: newPageShell(t, s.cluster, "migrate.md")}).sql("GRANT app TO app_iam"))
	if g := grant(t, s.cluster, nil, "--admin-user="+admin, "--user=app_iam", "--database=postgres", "--init="+file); g.code != 0 || g.stderr != "" {
		t.Fatalf("got %+v", g)
	}
	config := superuser(t, s.cluster).Config()
	config.User = "app_iam"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, before := range []string{"SELECT", "DISCARD ALL", "SET ROLE NONE; RESET ROLE"} {
		var session, current string
		if _, err := conn.Exec(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		if err := conn.QueryRow(t.Context(), "SELECT session_user, current_user", pgx.QueryExecModeSimpleProtocol).Scan(&session, &current); err != nil || session != "app_iam" || current != "app" {
			t.Errorf("after %s, the session of %q has the role %q (%v)", before, session, current, err)
		}
	}
}
