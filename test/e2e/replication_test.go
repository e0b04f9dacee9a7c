//go:build unix

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// Replication uses its own protocol, without requests and responses.
func TestReplication(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{Settings: map[string]string{"wal_level": "logical", "max_wal_senders": "10"}})
	admin := connectAdmin(t, cluster)
	mustExec(t, admin, "alter role "+aurora.IAMUser+" replication")
	mustExec(t, admin, "create table numbers (n int primary key)")
	mustExec(t, admin, "grant select on numbers to "+aurora.IAMUser)
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)

	t.Run("pg_basebackup", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "backup")
		p.replicate(t, "pg_basebackup", "-D", dir, "-X", "stream", "-c", "fast")
		runTool(t, "pg_verifybackup", "-n", dir)
	})
	t.Run("pg_receivewal", func(t *testing.T) {
		dir := t.TempDir()
		p.replicate(t, "pg_receivewal", "-D", dir, "-S", "physical", "--create-slot")
		end := switchWAL(t, admin)
		p.replicate(t, "pg_receivewal", "-D", dir, "-S", "physical", "--endpos="+end, "-n")
		if files, err := os.ReadDir(dir); err != nil || len(files) == 0 {
			t.Errorf("%d files, %v", len(files), err)
		}
	})
	t.Run("pg_recvlogical", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "changes")
		p.replicate(t, "pg_recvlogical", "-d", aurora.Database, "-S", "logical", "--create-slot", "-P", "test_decoding")
		mustExec(t, admin, "insert into numbers select generate_series(1, 1000)")
		end := switchWAL(t, admin)
		p.replicate(t, "pg_recvlogical", "-d", aurora.Database, "-S", "logical", "--start", "--endpos="+end, "-n", "-f", file)
		changes, err := os.ReadFile(file)
		if n := strings.Count(string(changes), "table public.numbers: INSERT"); err != nil || n != 1000 {
			t.Errorf("%d changes of 1000, %v", n, err)
		}
	})
	t.Run("subscription", func(t *testing.T) {
		subscriber := startCluster(t, &aurora.Cluster{Settings: map[string]string{"wal_level": "logical"}})
		there := connectAdmin(t, subscriber)
		mustExec(t, there, "create table numbers (n int primary key)")
		mustExec(t, admin, "create publication all_numbers for table numbers")
		mustExec(t, there, fmt.Sprintf("create subscription all_numbers connection '%s' publication all_numbers",
			p.conninfo(aurora.IAMUser, aurora.Database)))
		count := func() (n int) {
			if err := there.QueryRow(t.Context(), "select count(*) from numbers").Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		until(t, "the first rows", func() bool { return count() == 1000 })
		mustExec(t, admin, "insert into numbers select generate_series(1001, 1500)")
		until(t, "the next rows", func() bool { return count() == 1500 })
		mustExec(t, there, "drop subscription all_numbers")
	})
}

// replicate runs one of PostgreSQL's replication clients through the proxy.
func (p *process) replicate(t *testing.T, program string, args ...string) {
	t.Helper()
	runTool(t, program, append(args, "-h", "127.0.0.1", "-p", p.port(), "-U", aurora.IAMUser, "-w")...)
}

// runTool runs one of PostgreSQL's programs, in the server's version.
func runTool(t *testing.T, program string, args ...string) {
	t.Helper()
	bin, err := aurora.BinDir()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if out, err := combinedOutput(t, client(ctx, filepath.Join(bin, program), args...)); err != nil {
		t.Fatalf("%s %s: %v: %s", program, args, err, out)
	}
}

func connectAdmin(t *testing.T, cluster *aurora.Cluster) *pgx.Conn {
	t.Helper()
	admin, err := cluster.Admin(t.Context(), aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin.Close(context.Background()) })
	return admin
}

func mustExec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// switchWAL returns a position in the past.
func switchWAL(t *testing.T, admin *pgx.Conn) (lsn string) {
	t.Helper()
	if err := admin.QueryRow(t.Context(), "select pg_current_wal_insert_lsn()").Scan(&lsn); err != nil {
		t.Fatal(err)
	}
	mustExec(t, admin, "select pg_switch_wal()")
	mustExec(t, admin, "checkpoint")
	return lsn
}
