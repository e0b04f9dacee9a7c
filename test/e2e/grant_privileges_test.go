//go:build unix

package e2e

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// shop is a database of the administrator, as RDS makes one.
const shop = "shop"

func startShop(t *testing.T) *aurora.Cluster {
	t.Helper()
	cluster := startGrantable(t)
	asSuperuser(t, cluster, "CREATE DATABASE "+shop+" OWNER postgres")
	return cluster
}

// inShop runs statements as a role, without its password.
func inShop(t *testing.T, cluster *aurora.Cluster, role string, statements ...string) {
	t.Helper()
	conn := shopAs(t, cluster, role)
	defer conn.Close(t.Context())
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func shopAs(t *testing.T, cluster *aurora.Cluster, role string) *pgx.Conn {
	t.Helper()
	conn, err := cluster.Admin(t.Context(), shop)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	if _, err := conn.Exec(t.Context(), "SET SESSION AUTHORIZATION "+quoteName(role)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func inShopArgs(level string, more ...string) []string {
	return append([]string{"--database=" + shop, "--privileges=" + level}, more...)
}

// mayOnly runs statements as a user through iamproxy: those of may succeed, and the others
// are not permitted.
func mayOnly(t *testing.T, p *process, user string, may, not []string) {
	t.Helper()
	for _, sql := range may {
		if out, err := p.psql(user, shop, sql); err != nil {
			t.Errorf("%s: %s: %s", user, sql, out)
		}
	}
	for _, sql := range not {
		if out, err := p.psql(user, shop, sql); err == nil || !strings.Contains(out, "permission denied") && !strings.Contains(out, "must be owner") {
			t.Errorf("%s: %s: %s", user, sql, out)
		}
	}
}

// A task before the application starts, and then applications with each level.
func TestGrantLevels(t *testing.T) {
	t.Parallel()
	cluster := startShop(t)
	inShop(t, cluster, "postgres",
		"CREATE TABLE orders (id serial PRIMARY KEY, what text)", "CREATE VIEW recent AS SELECT * FROM orders",
		"CREATE MATERIALIZED VIEW sums AS SELECT count(*) FROM orders",
		"CREATE TABLE log (at date) PARTITION BY RANGE (at)", "CREATE TABLE log_26 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')")
	grant(t, cluster, nil, inShopArgs("owner", "--user=migrator")...).want(t,
		`created role "migrator"`, `granted rds_iam to "migrator"`,
		`granted CONNECT, CREATE, TEMPORARY on database "shop" to "migrator"`,
		`granted USAGE, CREATE on schema "public" to "migrator"`,
		`granted SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES on 5 tables in schema "public" to "migrator"`,
		`granted SELECT, USAGE, UPDATE on 1 sequence in schema "public" to "migrator"`,
		`default privileges: granted owner on future tables and sequences of "postgres" in schema "public" to "migrator"`)
	grant(t, cluster, nil, inShopArgs("readonly", "--user=reader")...).want(t,
		`created role "reader"`, `granted rds_iam to "reader"`,
		`granted CONNECT on database "shop" to "reader"`,
		`granted USAGE on schema "public" to "reader"`,
		`granted SELECT on 5 tables in schema "public" to "reader"`,
		`granted SELECT on 1 sequence in schema "public" to "reader"`,
		`default privileges: granted readonly on future tables and sequences of "migrator" in schema "public" to "reader"`,
		`default privileges: granted readonly on future tables and sequences of "postgres" in schema "public" to "reader"`)
	if g := grant(t, cluster, nil, inShopArgs("readwrite", "--user=writer")...); g.code != 0 || g.stderr != "" {
		t.Errorf("got %+v", g)
	}

	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	p.mustPSQL("migrator", shop, "CREATE TABLE migrated (id serial PRIMARY KEY)", "CREATE SCHEMA more")
	inShop(t, cluster, "postgres", "CREATE TABLE later (id int GENERATED ALWAYS AS IDENTITY, x int)", "CREATE SEQUENCE numbers")
	mayOnly(t, p, "migrator",
		[]string{"INSERT INTO orders (what) VALUES ('x')", "TRUNCATE later", "ALTER TABLE migrated ADD x int", "SELECT setval('orders_id_seq', 7)", "CREATE TABLE gone ()", "DROP TABLE gone"},
		[]string{"ALTER TABLE orders ADD x int"})
	mayOnly(t, p, "reader",
		[]string{"SELECT FROM orders, recent, sums, log, log_26, migrated, later", "SELECT last_value FROM numbers"},
		[]string{"INSERT INTO orders (what) VALUES ('x')", "INSERT INTO later DEFAULT VALUES", "SELECT nextval('numbers')", "CREATE TABLE t ()", "DELETE FROM migrated"})
	mayOnly(t, p, "writer",
		[]string{"INSERT INTO orders (what) VALUES ('x')", "INSERT INTO migrated DEFAULT VALUES", "UPDATE orders SET what = 'y'", "INSERT INTO later DEFAULT VALUES", "DELETE FROM later", "SELECT nextval('numbers')"},
		[]string{"TRUNCATE orders", "CREATE TABLE t ()", "DROP TABLE orders", "CREATE SCHEMA s"})

	grant(t, cluster, nil, inShopArgs("readonly", "--user=reader")...).want(t,
		`"reader" already has rds_iam`,
		`"reader" already has readonly on database "shop"`,
		`"reader" already has readonly on schema "public"`,
		`"reader" already has readonly on 7 tables in schema "public"`,
		`"reader" already has readonly on 4 sequences in schema "public"`,
		`default privileges: "reader" already has readonly on future tables and sequences of "migrator" in schema "public"`,
		`default privileges: "reader" already has readonly on future tables and sequences of "postgres" in schema "public"`)
	// No role remains a member of a role with rds_iam.
	grant(t, cluster, nil, "--user=writer").want(t, `"writer" already has rds_iam`)
}

// A higher level adds privileges, and a lower one removes none.
func TestGrantLevelChange(t *testing.T) {
	t.Parallel()
	cluster := startShop(t)
	inShop(t, cluster, "postgres", "CREATE TABLE orders ()", "CREATE TABLE bills ()")
	grant(t, cluster, nil, inShopArgs("readonly", "--user=app")...)
	inShop(t, cluster, "postgres", "GRANT INSERT, UPDATE, DELETE ON bills TO app")
	grant(t, cluster, nil, inShopArgs("readwrite", "--user=app")...).want(t,
		`"app" already has rds_iam`,
		`granted INSERT, UPDATE, DELETE on 1 table in schema "public" to "app"`,
		`"app" already has readwrite on database "shop"`,
		`"app" already has readwrite on schema "public"`,
		`"app" already has readwrite on 1 table in schema "public"`,
		`default privileges: granted readwrite on future tables and sequences of "postgres" in schema "public" to "app"`)
	grant(t, cluster, nil, inShopArgs("readonly", "--user=app")...).want(t,
		`"app" already has rds_iam`,
		`"app" already has readonly on database "shop"`,
		`"app" already has readonly on schema "public"`,
		`"app" already has readonly on 2 tables in schema "public"`,
		`default privileges: "app" already has readonly on future tables and sequences of "postgres" in schema "public"`)
	var kept bool
	if err := shopAs(t, cluster, "postgres").QueryRow(t.Context(), "SELECT has_table_privilege('app', 'orders', 'DELETE')").Scan(&kept); err != nil || !kept {
		t.Errorf("kept: %v, %v", kept, err)
	}
}

// quoteName returns name as an SQL identifier.
func quoteName(name string) string { return pgx.Identifier{name}.Sanitize() }

// Names of users, databases, schemas and tables are quoted.
func TestGrantHostileNames(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	const (
		user     = `Ünï "x"; DROP ROLE postgres --`
		database = `My "data"; base`
		schema   = `sch"e,ma $$ 'x'`
	)
	asSuperuser(t, cluster, "CREATE DATABASE "+quoteName(database)+" OWNER postgres")
	conn, err := cluster.Admin(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, sql := range []string{"SET SESSION AUTHORIZATION postgres", "CREATE SCHEMA " + quoteName(schema), `CREATE SCHEMA "UPPER"`,
		"CREATE TABLE " + quoteName(schema) + `."t"";able" (x int)`, `CREATE TABLE "UPPER"."T" (x int)`} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	g := grant(t, cluster, nil, "--user="+user, "--database="+database, "--schema="+strings.ReplaceAll(schema, ",", `\,`), "--schema=UPPER", "--privileges=readonly")
	toUser := ` to "` + user + `"`
	g.want(t, `created role "`+user+`"`, "granted rds_iam"+toUser,
		`granted CONNECT on database "`+database+`"`+toUser,
		`granted USAGE on schema "`+schema+`"`+toUser,
		`granted USAGE on schema "UPPER"`+toUser,
		`granted SELECT on 1 table in schema "`+schema+`"`+toUser,
		`granted SELECT on 1 table in schema "UPPER"`+toUser,
		`default privileges: granted readonly on future tables and sequences of "postgres" in schema "`+schema+`"`+toUser,
		`default privileges: granted readonly on future tables and sequences of "postgres" in schema "UPPER"`+toUser)
}

// Objects of other owners are granted only where the administrator can join the owner
// temporarily.
func TestGrantObjectsOfOtherOwners(t *testing.T) {
	t.Parallel()
	cluster := startShop(t)
	asSuperuser(t, cluster, "CREATE ROLE team", "CREATE ROLE other LOGIN IN ROLE rds_iam", "GRANT team TO postgres", "CREATE ROLE outer_role IN ROLE postgres")
	inShop(t, cluster, "rdsadmin", "CREATE EXTENSION pg_stat_statements SCHEMA public", "CREATE TABLE secret ()",
		"CREATE TABLE shared ()", "GRANT SELECT ON shared TO postgres WITH GRANT OPTION",
		"CREATE SCHEMA others AUTHORIZATION other", "GRANT CREATE ON SCHEMA public TO team, other, outer_role")
	inShop(t, cluster, "team", "CREATE TABLE of_team ()")
	inShop(t, cluster, "other", "CREATE TABLE of_other ()", "CREATE TABLE others.t ()")
	g := grant(t, cluster, nil, inShopArgs("readonly", "--user=app", "--schema=public,others")...)
	const wantOut = `created role "app"
granted rds_iam to "app"
granted CONNECT on database "shop" to "app"
granted USAGE on schema "public" to "app"
granted USAGE on schema "others" to "app"
granted SELECT on 3 tables in schema "public" to "app"
granted SELECT on 1 table in schema "others" to "app"
default privileges: granted readonly on future tables and sequences of "other" in schema "public" to "app"
default privileges: granted readonly on future tables and sequences of "postgres" in schema "public" to "app"
default privileges: granted readonly on future tables and sequences of "team" in schema "public" to "app"
default privileges: granted readonly on future tables and sequences of "other" in schema "others" to "app"
default privileges: granted readonly on future tables and sequences of "postgres" in schema "others" to "app"
`
	const wantNotes = `iamproxy: note: readonly not granted to "app" on 1 table in schema "public": the owner is "rdsadmin"; grant as the owner (--admin-user), or make "postgres" a member of it
iamproxy: note: readonly on future tables and sequences of "outer_role" in schema "public" not granted to "app": grant as "outer_role" (--admin-user), or make "postgres" a member of it
`
	if g.code != 0 || g.stdout != wantOut || g.stderr != wantNotes {
		t.Errorf("got %d\n%s\n%s", g.code, g.stdout, g.stderr)
	}
	var memberships string
	err := superuser(t, cluster).QueryRow(t.Context(), `SELECT string_agg(r.rolname || '>' || m.rolname, ' ' ORDER BY m.rolname DESC) FROM pg_auth_members a
		JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member WHERE 'postgres' IN (r.rolname, m.rolname)`).Scan(&memberships)
	if want := "team>postgres postgres>outer_role"; err != nil || memberships != want {
		t.Errorf("memberships %q, want %q: %v", memberships, want, err)
	}
	inShop(t, cluster, "other", "CREATE TABLE others.later ()")
	inShop(t, cluster, "app", "SELECT FROM others.later, of_team, of_other")
}

// If a privilege that others depend on is missing, nothing is changed.
func TestGrantPrivilegesFailures(t *testing.T) {
	t.Parallel()
	cluster := startShop(t)
	asSuperuser(t, cluster, "CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC", "GRANT CONNECT ON DATABASE closed TO postgres")
	inShop(t, cluster, "rdsadmin", "CREATE SCHEMA closed")
	grant(t, cluster, nil, inShopArgs("readonly", "--user=app", "--schema=public,none")...).wantFailure(t, `schema "none" does not exist in database "shop"`, `CREATE SCHEMA "none"`)
	grant(t, cluster, nil, inShopArgs("readonly", "--user=app", "--schema=closed")...).wantFailure(t, `"postgres" may not grant USAGE on schema "closed" to "app": the owner is "rdsadmin"`)
	grant(t, cluster, nil, "--user=app", "--database=closed", "--privileges=readonly").wantFailure(t, `"postgres" may not grant CONNECT on database "closed" to "app"`)
	var there bool
	if err := superuser(t, cluster).QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app')").Scan(&there); err != nil || there {
		t.Errorf("app was created: %v, %v", there, err)
	}
	// All roles have this privilege in the database of another owner.
	grant(t, cluster, nil, "--user=app", "--database=postgres", "--privileges=readonly").want(t,
		`created role "app"`, `granted rds_iam to "app"`, `"app" already has readonly on database "postgres"`, `"app" already has readonly on schema "public"`,
		`default privileges: granted readonly on future tables and sequences of "postgres" in schema "public" to "app"`)
}

// Concurrent runs succeed, and each privilege is granted once.
func TestGrantPrivilegesConcurrently(t *testing.T) {
	t.Parallel()
	cluster := startShop(t)
	inShop(t, cluster, "postgres", "CREATE TABLE orders (id serial)")
	var all [4]granted
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() { all[i] = grant(t, cluster, nil, inShopArgs("owner", "--user=app,other")...) })
	}
	wg.Wait()
	granted := 0
	for _, g := range all {
		if g.code != 0 || g.stderr != "" {
			t.Errorf("got %+v", g)
		}
		granted += strings.Count(g.stdout, "granted SELECT")
	}
	if granted != 4 {
		t.Errorf("%d grants: %+v", granted, all)
	}
}
