//go:build unix

package e2e

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// TestGrantPage runs the command of docs/grant.md, and its recipes to change a table's owner and
// to drop a user. The output is that of the page.
func TestGrantPage(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	asSuperuser(t, cluster, "ALTER DATABASE "+aurora.Database+" OWNER TO postgres", "CREATE ROLE old")
	conn, err := cluster.Admin(t.Context(), aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `SET ROLE postgres; CREATE TABLE a (id serial); CREATE TABLE b (); CREATE TABLE c (); CREATE TABLE d ();
		CREATE TABLE orders (); RESET ROLE; ALTER SCHEMA public OWNER TO postgres`); err != nil {
		t.Fatal(err)
	}
	d := newPageShell(t, cluster, "grant.md")
	create := strings.ReplaceAll(d.block("--privileges readonly"), "PGPASSWORD=...", "PGPASSWORD="+quoteShell(adminPassword))
	printed, next, _ := strings.Cut(d.run(create), "next: ")
	if !strings.Contains(d.page, "```\n"+printed+"next: iamproxy check "+aurora.DefaultHost+" --user app --database mydb\n```") || !strings.HasPrefix(next, "iamproxy check ") {
		t.Errorf("printed %s", printed)
	}
	if sql := d.run(strings.TrimSpace(create) + " --dry-run"); !strings.Contains(d.page, "```sql\n"+sql+"```") {
		t.Errorf("printed %s", sql)
	}

	if _, err := conn.Exec(t.Context(), "ALTER TABLE orders OWNER TO old"); err != nil {
		t.Fatal(err)
	}
	d.put("owner.sql", sqlRecipe(t, d.page, "ALTER TABLE orders OWNER"))
	d.run(strings.Replace(strings.TrimSpace(create), "readonly", "owner", 1) + " --init owner.sql")
	var owner string
	if err := conn.QueryRow(t.Context(), "SELECT tableowner FROM pg_tables WHERE tablename = 'orders'").Scan(&owner); err != nil || owner != "app" {
		t.Errorf("orders belongs to %q (%v)", owner, err)
	}

	d.put("drop.sql", sqlRecipe(t, d.page, "DROP ROLE"))
	d.env = append(d.env, "PGPASSWORD="+adminPassword)
	host, port, _ := net.SplitHostPort(cluster.Addr())
	psql := fmt.Sprintf(`psql "host=%s port=%s user=postgres dbname=%s sslmode=require" -v ON_ERROR_STOP=1 -q `, host, port, aurora.Database)
	d.run(fails(psql + `-c 'DROP ROLE "app"'`))
	d.run(psql + "-f drop.sql; " + psql + "-c 'SELECT 1'") // the administrator's password is still valid
	if err := conn.QueryRow(t.Context(), "SELECT tableowner FROM pg_tables WHERE tablename = 'orders'").Scan(&owner); err != nil || owner != "postgres" {
		t.Errorf("after the user was dropped, orders belongs to %q (%v)", owner, err)
	}
	var exists bool
	if err := conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app')").Scan(&exists); err != nil || exists {
		t.Errorf("the user still exists (%v)", err)
	}
}

// sqlRecipe returns the page's one block of SQL that has a statement.
func sqlRecipe(t *testing.T, page, statement string) (sql string) {
	t.Helper()
	for _, block := range sqlBlock.FindAllStringSubmatch(page, -1) {
		if strings.Contains(block[1], statement) {
			sql += block[1]
		}
	}
	if strings.Count(sql, statement) != 1 {
		t.Fatalf("the page has %d blocks with %s, want 1", strings.Count(sql, statement), statement)
	}
	return sql
}
