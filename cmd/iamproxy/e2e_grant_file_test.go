//go:build unix

package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/internal/standin"
)

// fileOf is one for --init, for a database of the administrator's.
func fileOf(t *testing.T, cluster *standin.Cluster, sql string) []string {
	t.Helper()
	asSuperuser(t, cluster, "ALTER DATABASE "+standin.Database+" OWNER TO postgres")
	file := filepath.Join(t.TempDir(), "init.sql")
	if err := os.WriteFile(file, []byte(sql), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--user=app", "--database=" + standin.Database, "--init=" + file}
}

// Nobody waits any more, and so the server leaves off as well.
func TestGrantLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	running := startGrant(t, cluster, nil, fileOf(t, cluster, "SELECT pg_sleep(600)")...)
	conn := superuser(t, cluster)
	working := func() (n int) {
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'iamproxy grant' AND wait_event = 'PgSleep'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	until(t, "the file to be run", func() bool { return working() == 1 })
	running.terminate(t)
	running.wait(t).wantFailure(t, "told to end before it was done; nothing is changed")
	if n := working(); n != 0 {
		t.Error("it still works")
	}
}

// The file means what it says, whatever the database's owner has set.
func TestGrantReadsTheFileAsItStands(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	args := fileOf(t, cluster, `CREATE TABLE said AS SELECT 'C:\new' AS path, extract(epoch FROM timestamptz '2026-01-02 00:00')::int AS at`)
	asSuperuser(t, cluster,
		"ALTER DATABASE "+standin.Database+" SET standard_conforming_strings = off",
		"ALTER DATABASE "+standin.Database+" SET TimeZone = 'Asia/Tokyo'",
		"ALTER DATABASE "+standin.Database+" SET role = 'nobody at all'")
	grant(t, cluster, nil, args...).want(t, "created role app", "granted rds_iam to app", "ran "+args[2][len("--init="):])
	conn, err := cluster.Admin(t.Context(), standin.Database)
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

// A file that nobody writes does not hold it for ever.
func TestGrantWaitingForAFile(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	for _, flag := range []string{"--init=", "--password-file="} {
		fifo := filepath.Join(t.TempDir(), "fifo")
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		running := startGrant(t, cluster, nil, "--user=app", "--database="+standin.Database, flag+fifo)
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
