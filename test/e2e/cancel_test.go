//go:build unix

package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// Ctrl-C in psql cancels the query of its own session only.
func testCancel(t *testing.T, cluster *aurora.Cluster, p *process) {
	testCancelAt(t, cluster, p.conninfo(aurora.IAMUser, aurora.Database))
}

func testCancelAt(t *testing.T, cluster *aurora.Cluster, conninfo string) {
	admin, err := cluster.Admin(t.Context(), aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	sleeping := func(name string) (n int) {
		err := admin.QueryRow(t.Context(), "select count(*) from pg_stat_activity where application_name = $1 and state = 'active' and query like '%pg_sleep%'", name).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	start := func(name string) (wait func() string, interrupt func()) {
		cmd := client(ctx, "psql", "-X", "-w", conninfo+" application_name="+name, "-c", "select pg_sleep(600)")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return func() string { _ = cmd.Wait(); keep(t, "psql", out.String()); return out.String() }, func() { _ = cmd.Process.Signal(os.Interrupt) }
	}
	waitA, interruptA := start("a")
	waitB, interruptB := start("b")
	until(t, "both to sleep", func() bool { return sleeping("a") == 1 && sleeping("b") == 1 })
	interruptA()
	if out := waitA(); !strings.Contains(out, "canceling statement due to user request") {
		t.Errorf("psql a printed %q", out)
	}
	if sleeping("b") != 1 {
		t.Error("the other session's query was cancelled too")
	}
	interruptB()
	if out := waitB(); !strings.Contains(out, "canceling statement due to user request") {
		t.Errorf("psql b printed %q", out)
	}
}

// Cancel requests that race with the ends of their sessions cancel no query of others,
// whose server processes may reuse the process ids.
func TestCancelRace(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--log-level=info", "--listen-tls=self-signed")...)
	const races, atOnce, strangers = 300, 8, 4

	done := make(chan struct{})
	var others sync.WaitGroup
	for range strangers {
		others.Go(func() { runOtherSessions(t, p, done) })
	}
	slots := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i := range races {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			raceCancel(t, p, i)
		})
	}
	all.Wait()
	close(done)
	others.Wait()
}

// runOtherSessions runs short sessions, whose queries must not be canceled.
func runOtherSessions(t *testing.T, p *process, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		default:
		}
		conn, err := pgx.Connect(t.Context(), p.conninfo(aurora.OtherUser, aurora.Database)+" sslmode=require")
		if err != nil {
			t.Error(err)
			return
		}
		for range 5 {
			if _, err := conn.Exec(t.Context(), "select pg_sleep(0.01)"); err != nil {
				t.Errorf("a stranger was hit: %v", err)
			}
		}
		_ = conn.Close(t.Context())
	}
}

// raceCancel ends a session while cancel requests for it are in flight, with or without a
// running query.
func raceCancel(t *testing.T, p *process, i int) {
	ctx, stop := context.WithTimeout(t.Context(), limit)
	defer stop()
	conn, err := pgx.Connect(ctx, p.conninfo(aurora.IAMUser, aurora.Database)+" sslmode=prefer")
	if err != nil {
		t.Error(err)
		return
	}
	key := pgproto3.BackendKeyData{ProcessID: conn.PgConn().PID(), SecretKey: conn.PgConn().SecretKey()}
	var requests sync.WaitGroup
	if i%2 == 0 {
		ended := make(chan error, 1)
		go sleepLong(ctx, conn, ended)
		cancelUntil(t, p, key, ended)
	} else {
		requests.Go(func() { cancelRaw(t, p, key) })
	}
	_ = conn.Close(ctx)
	cancelRaw(t, p, key) // stale, or about to be
	requests.Wait()
}

// cancelUntil repeats cancel requests until the query ends: one may arrive before the
// query.
func cancelUntil(t *testing.T, p *process, key pgproto3.BackendKeyData, ended <-chan error) {
	for {
		cancelRaw(t, p, key)
		select {
		case err := <-ended:
			var cancelled *pgconn.PgError
			if !errors.As(err, &cancelled) || cancelled.Code != "57014" {
				t.Errorf("the query ended with %v", err)
			}
			return
		default:
		}
	}
}
