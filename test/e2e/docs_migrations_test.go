//go:build unix

package e2e

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// These tests run the commands of pages in docs/ unchanged, except for the addresses of the
// database and of iamproxy.

// migrationsVariable names the directory with the tools that `make migrations` fetches.
const migrationsVariable = "MIGRATIONS"

// pageShell is a directory and an environment to run the blocks of a page.
type pageShell struct {
	t    *testing.T
	page string // its text
	dir  string // working directory
	env  []string
	port string // of iamproxy
}

// newPageShell makes a shell with iamproxy on the PATH, which finds the stand-in through the
// environment.
func newPageShell(t *testing.T, cluster *aurora.Cluster, page string) *pageShell {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	d := &pageShell{t: t, page: string(text), dir: t.TempDir()}
	bin := t.TempDir()
	if err := os.Symlink(binaryPath(t), filepath.Join(bin, "iamproxy")); err != nil {
		t.Fatal(err)
	}
	listen := freeAddress(t)
	_, d.port, _ = net.SplitHostPort(listen)
	d.env = append(keyEnvironment(aurora.DefaultSessionKey),
		"PATH="+bin+":"+os.Getenv("PATH"), "HOME="+d.dir, "PGPORT="+d.port, "PGPASSFILE=/nonexistent", "LC_ALL=C",
		"IAMPROXY_VIA="+cluster.Addr(), "IAMPROXY_CA_FILE="+cluster.CAFile(),
		"IAMPROXY_LISTEN="+listen, "IAMPROXY_ADMIN="+freeAddress(t))
	return d
}

// path returns the PATH of the shell.
func (d *pageShell) path() (path string) {
	for _, variable := range d.env {
		if value, ok := strings.CutPrefix(variable, "PATH="); ok {
			path = value // the last one counts
		}
	}
	return path
}

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// block returns the page's one shell block with all of these words.
func (d *pageShell) block(words ...string) string {
	d.t.Helper()
	var found []string
	for _, block := range shellBlock.FindAllStringSubmatch(d.page, -1) {
		if hasAll(block[1], words) {
			found = append(found, block[1])
		}
	}
	if len(found) != 1 {
		d.t.Fatalf("%d blocks with %q, want 1", len(found), words)
	}
	return strings.ReplaceAll(found[0], "localhost:5432", "localhost:"+d.port)
}

func hasAll(text string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// run runs all blocks in one shell, which ends at the first failure. Background processes
// have to end as well.
func (d *pageShell) run(blocks ...string) string {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-euc", strings.Join(blocks, "\n")+"\nwait\n")
	cmd.Dir, cmd.Env = d.dir, d.env
	// The shell's children must end if it fails.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	end := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = end, time.Second
	out, err := combinedOutput(d.t, cmd)
	log, _ := os.ReadFile(filepath.Join(d.dir, "iamproxy.log"))
	keep(d.t, "iamproxy.log", string(log))
	if err != nil {
		_ = end()
		d.t.Fatalf("%v: %s\n%s", err, out, log)
	}
	return string(out)
}

func (d *pageShell) put(name, text string) {
	d.t.Helper()
	file := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

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
	d.run(d.block("iamproxy.log &", "iamproxy wait"), d.block("psql"), d.block("iamproxy shutdown"))
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
	out := d.run(d.block("iamproxy.log &", "iamproxy wait"), migrate, migrate, d.block("iamproxy shutdown"))
	if !strings.Contains(out, "All migrations have been successfully applied") || !strings.Contains(out, "No pending migrations to apply") {
		t.Errorf("Prisma said: %s", out)
	}
	wantMigrated(t, cluster, "Item")
}

var jdbcURL = regexp.MustCompile(`-url=('jdbc:postgresql:[^']*')`)

// Flyway itself is not available here. Its URL is tried with its driver.
func testFlywayURL(t *testing.T, cluster *aurora.Cluster, tools string) {
	d := newPageShell(t, cluster, "schema-migrations.md")
	url := jdbcURL.FindStringSubmatch(d.block("flyway"))
	if url == nil {
		t.Fatal("Flyway is given no URL")
	}
	d.put("V1__items.sql", itemsTable)
	d.run(d.block("iamproxy.log &", "iamproxy wait"),
		"java -cp /usr/share/java/postgresql.jar "+filepath.Join(tools, "flyway", "Migrate.java")+" "+url[1]+" V1__items.sql",
		d.block("iamproxy shutdown"))
	for _, table := range []string{"items", "history"} {
		wantMigrated(t, cluster, table)
	}
}
