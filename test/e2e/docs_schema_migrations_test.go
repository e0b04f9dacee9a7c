//go:build unix

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// migrationsVariable names the directory with the tools that `make migrations` fetches.
const migrationsVariable = "MIGRATIONS"

// startMigratable starts a cluster with the users of the page. As in RDS, the administrator
// owns the database.
func startMigratable(t *testing.T) *aurora.Cluster {
	t.Helper()
	cluster := startGrantable(t)
	asSuperuser(t, cluster, "ALTER DATABASE "+aurora.Database+" OWNER TO postgres")
	d := newPageShell(t, cluster, "schema-migrations.md")
	d.env = append(d.env, "PGPASSWORD="+adminPassword)
	d.run(d.block("iamproxy grant"))
	return cluster
}

const itemsTable = "CREATE TABLE items (id serial PRIMARY KEY, name text NOT NULL);\n"

// wantMigrated fails unless the migration user owns the table and the application can use
// it.
func wantMigrated(t *testing.T, cluster *aurora.Cluster, table string) {
	t.Helper()
	conn, err := cluster.Admin(t.Context(), aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var owner string
	var used bool
	err = conn.QueryRow(t.Context(), `SELECT tableowner, has_table_privilege('app', format('%I', tablename), 'INSERT')
		FROM pg_tables WHERE tablename = $1`, table).Scan(&owner, &used)
	if err != nil || owner != "migrate" || !used {
		t.Errorf("%s: it is %q's, and the application may use it: %v (%v)", table, owner, used, err)
	}
}

func TestMigrationOfPlainSQL(t *testing.T) {
	t.Parallel()
	cluster := startMigratable(t)
	d := newPageShell(t, cluster, "schema-migrations.md")
	d.put("migrations/001.sql", itemsTable)
	d.run(d.block("psql"))
	wantMigrated(t, cluster, "items")
}

// TestMigrations runs the tools that have to be fetched.
func TestMigrations(t *testing.T) {
	tools := os.Getenv(migrationsVariable)
	if tools == "" {
		t.Skip(migrationsVariable + " is not set: `make migrations` gets the tools and runs this")
	}
	cluster := startMigratable(t)
	t.Run("Prisma", func(t *testing.T) { testPrisma(t, cluster, tools) })
	t.Run("JDBC", func(t *testing.T) { testFlywayURL(t, cluster, tools) })
}

func testPrisma(t *testing.T, cluster *aurora.Cluster, tools string) {
	d := newPageShell(t, cluster, "schema-migrations.md")
	for _, name := range []string{"node_modules", "package.json", "prisma", "prisma.config.js"} {
		if err := os.Symlink(filepath.Join(tools, name), filepath.Join(d.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	// It looks for its programs, even if it runs none of them.
	d.put("unused", "")
	unused := filepath.Join(d.dir, "unused")
	d.env = append(d.env, "CHECKPOINT_DISABLE=1", "PRISMA_SCHEMA_ENGINE_BINARY="+unused, "PRISMA_QUERY_ENGINE_LIBRARY="+unused)
	migrate := d.block("prisma migrate deploy")
	out := d.run(migrate, migrate)
	if !strings.Contains(out, "All migrations have been successfully applied") || !strings.Contains(out, "No pending migrations to apply") {
		t.Errorf("Prisma said: %s", out)
	}
	wantMigrated(t, cluster, "Item")
}

// Flyway itself is not available here. Its URL is tried with its driver.
func testFlywayURL(t *testing.T, cluster *aurora.Cluster, tools string) {
	d := newPageShell(t, cluster, "schema-migrations.md")
	d.put("V1__items.sql", itemsTable)
	d.put("flyway", "#!/bin/sh\nexec java -cp /usr/share/java/postgresql.jar "+filepath.Join(tools, "flyway", "Migrate.java")+` "$FLYWAY_URL" V1__items.sql`)
	if err := os.Chmod(filepath.Join(d.dir, "flyway"), 0o755); err != nil {
		t.Fatal(err)
	}
	d.run(`PATH="$PWD:$PATH"`, d.block("flyway migrate"))
	for _, table := range []string{"items", "history"} {
		wantMigrated(t, cluster, table)
	}
}
