//go:build unix

package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// TestGrantPage runs the command of docs/grant.md, and its recipe to change a table's owner. The
// output is that of the page.
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
	recipe := sqlBlock.FindAllStringSubmatch(d.page, -1)
	d.put("owner.sql", recipe[len(recipe)-1][1])
	d.run(strings.Replace(strings.TrimSpace(create), "readonly", "owner", 1) + " --init owner.sql")
	var owner string
	if err := conn.QueryRow(t.Context(), "SELECT tableowner FROM pg_tables WHERE tablename = 'orders'").Scan(&owner); err != nil || owner != "app" {
		t.Errorf("orders belongs to %q (%v)", owner, err)
	}
}
