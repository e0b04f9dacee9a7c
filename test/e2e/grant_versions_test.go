//go:build unix

package e2e

import "testing"

// testVersionGrant tests memberships, default privileges and the schema public, which
// differ between versions. The administrator has rds_iam, for which these servers accept a
// password.
func testVersionGrant(t *testing.T, s *versioned) {
	asSuperuser(t, s.cluster, "CREATE ROLE postgres LOGIN CREATEROLE PASSWORD "+quoteText(adminPassword),
		"GRANT rds_iam TO postgres WITH ADMIN OPTION", "CREATE DATABASE "+shop+" OWNER postgres", "CREATE ROLE stranger LOGIN")
	inShop(t, s.cluster, "rdsadmin", "CREATE SCHEMA own AUTHORIZATION postgres", "GRANT CREATE ON SCHEMA own TO stranger")
	inShop(t, s.cluster, "postgres", "CREATE TABLE own.orders (id serial)")
	inShop(t, s.cluster, "stranger", "CREATE TABLE own.strange ()")
	levels := map[string]string{"migrator": "owner", "reader": "readonly", "writer": "readwrite"}
	for _, user := range []string{"migrator", "reader", "writer", "reader"} {
		g := grant(t, s.cluster, nil, inShopArgs(levels[user], "--schema=own,public", "--user="+user, "--init="+writeSQL(t, "CREATE TABLE IF NOT EXISTS init (x int)"))...)
		if g.code != 0 || (g.stderr != "") != (s.version >= 16) { // then no temporary membership is possible
			t.Errorf("got %d\n%s\n%s", g.code, g.stdout, g.stderr)
		}
	}
	inShop(t, s.cluster, "migrator", "CREATE TABLE own.migrated (id serial)", "INSERT INTO own.orders DEFAULT VALUES", "CREATE TABLE public.t ()")
	inShop(t, s.cluster, "postgres", "CREATE TABLE own.later ()")
	inShop(t, s.cluster, "reader", "SELECT FROM own.migrated, own.later, own.orders, own.init, public.t")
	inShop(t, s.cluster, "writer", "INSERT INTO own.migrated DEFAULT VALUES", "INSERT INTO own.orders DEFAULT VALUES")
}
