//go:build unix

package e2e

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/test/aurora"
)

const isReadOnly = "show transaction_read_only"

// If the writer's name leads to a read-only instance, only target=any can log in.
func TestNoWriter(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		start func(*testing.T) *aurora.Cluster
		why   string
	}{
		{"standby", startStandby, "is a standby"},
		{"read-only by its configuration", func(t *testing.T) *aurora.Cluster {
			return startCluster(t, &aurora.Cluster{Settings: map[string]string{"default_transaction_read_only": "on"}})
		}, "is read-only"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cluster := test.start(t)
			const timeout = 3 * time.Second
			args := slices.Insert(clusterArgs(cluster, "--connect-timeout="+timeout.String()), 1, aurora.DefaultHost+"?target=any&listen=127.0.0.1:0")
			p := startProxy(t, keyEnvironment(aurora.DefaultKey), args...)
			began := time.Now()
			refused := p.refused(aurora.IAMUser, aurora.Database)
			if refused.Code != "57P03" || !strings.Contains(refused.Message, "no writable instance: "+aurora.DefaultHost) ||
				!strings.Contains(refused.Message, test.why) || !strings.Contains(refused.Hint, "target=any") {
				t.Errorf("told %s: %s, hint %q", refused.Code, refused.Message, refused.Hint)
			}
			// It ends when another attempt would not fit.
			if took := time.Since(began); took < timeout/2 || p.retries() < 2 {
				t.Errorf("told after %v and %d more attempts, want it to be looked for until %v", took, p.retries(), timeout)
			}
			p.listens = p.listens[1:]
			if out := p.mustPSQL(aurora.IAMUser, aurora.Database, isReadOnly); out != "on" {
				t.Errorf("target=any: psql printed %q", out)
			}
		})
	}
}

// startStandby starts a standby without a primary.
func startStandby(t *testing.T) *aurora.Cluster {
	t.Helper()
	cluster := startCluster(t, &aurora.Cluster{})
	if err := cluster.StartAsStandby(t.Context()); err != nil {
		t.Fatal(err)
	}
	return cluster
}

// A client that requests read-only transactions gets them on the writer.
func TestReadOnlySession(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	admin := connectAdmin(t, cluster)
	mustExec(t, admin, "alter role "+aurora.OtherUser+" set default_transaction_read_only = on")
	mustExec(t, admin, "create database reports")
	mustExec(t, admin, "alter database reports set default_transaction_read_only = on")
	mustExec(t, admin, "alter role "+aurora.AdminUser+" in database "+aurora.Database+" set default_transaction_read_only = on")
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	for _, test := range []struct{ name, user, database, options string }{
		{"role", aurora.OtherUser, aurora.Database, ""},
		{"database", aurora.IAMUser, "reports", ""},
		{"role in a database", aurora.AdminUser, aurora.Database, ""},
		{"client", aurora.IAMUser, aurora.Database, "-c default_transaction_read_only=on"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			psql := client(ctx, "psql", "-X", "-w", "-A", "-t", p.conninfo(test.user, test.database), "-c", isReadOnly)
			psql.Env = append(psql.Env, "PGOPTIONS="+test.options)
			if out, err := combinedOutput(t, psql); err != nil || string(out) != "on\n" {
				t.Errorf("psql: %v: %s", err, out)
			}
		})
	}
	if n := p.retries(); n != 0 {
		t.Errorf("%d logins were tried again", n)
	}
}

// A client that connects while there is no writer is let in when there is one.
func TestPromotion(t *testing.T) {
	t.Parallel()
	cluster := startStandby(t)
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	ended := p.startPSQL(isReadOnly)
	until(t, "the standby to be found one", func() bool { return p.retries() > 1 && strings.Contains(p.logs(), "is a standby") })
	if err := cluster.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	expectPrinted(t, ended, "off")
}

// A failover as in Aurora: the writer restarts as a reader, and its name moves to the other
// instance, at first not for all resolvers. That instance accepts writes only later.
// Clients that connect all the time receive no error.
func TestFailover(t *testing.T) {
	t.Parallel()
	name := newMovingName(t, "writer.failover.test")
	writer := startCluster(t, &aurora.Cluster{})
	mustExec(t, connectAdmin(t, writer), "create table written (client int, n int)")
	mustExec(t, connectAdmin(t, writer), "grant all on written to "+aurora.IAMUser)
	reader := startCluster(t, &aurora.Cluster{Primary: writer})

	// The instances have one port and several addresses, as in AWS.
	const oldAddress, newAddress = "127.94.0.2", "127.94.0.3"
	atOld := startForward(t, oldAddress+":0", writer.Addr())
	port := atOld.port(t)
	startForward(t, net.JoinHostPort(newAddress, port), reader.Addr())
	name.moveTo(oldAddress)

	args := []string{aurora.DefaultHost, "--listen=127.0.0.1:0", "--via=" + net.JoinHostPort(name.name, port),
		"--ca-file=" + bothCAs(t, writer, reader), "--log-level=debug"}
	cmd := name.command(binaryPath(t), args...)
	cmd.Env = append(keyEnvironment(aurora.DefaultKey), "GODEBUG=netdns=go") // as in a build without cgo
	p := startCommand(t, cmd, 1)

	const clients = 4
	all := &writers{proxy: p, done: make([]int, clients)}
	stop := all.start(t)
	all.awaitMore(t, 5)
	began := time.Now()

	atOld.close()
	all.setEnding(true)
	if err := writer.StartAsStandby(t.Context()); err != nil {
		t.Fatal(err)
	}
	all.setEnding(false)
	atOld.open(t)
	all.awaitLogin(t, writer)
	name.moveTo(newAddress)
	all.awaitLogin(t, reader)
	name.moveTo(oldAddress)
	all.awaitLogin(t, writer)
	name.moveTo(newAddress)
	time.Sleep(3 * time.Second) // the delay before the promotion
	if err := reader.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	all.awaitMore(t, 2)
	name.moveTo(oldAddress) // a resolver with a stale record
	all.awaitLogin(t, writer)
	name.moveTo(newAddress)
	all.awaitMore(t, 5)
	took := time.Since(began)
	stop()

	longest, sessions := all.summary()
	t.Logf("the longest wait was %v, in a failover of %v; %d sessions, of which %d were cut with the old writer",
		longest.Round(10*time.Millisecond), took.Round(10*time.Millisecond), sessions, all.cut)
	if longest < 3*time.Second {
		t.Error("nobody waited: that was no failover")
	}
	all.checkWritten(t, reader)
}

// bothCAs writes the CAs of both instances, which are the same in AWS.
func bothCAs(t *testing.T, clusters ...*aurora.Cluster) (file string) {
	t.Helper()
	var all []byte
	for _, c := range clusters {
		ca, err := os.ReadFile(c.CAFile())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ca...)
	}
	file = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// writers are clients that each connect, write a row and disconnect, repeatedly.
type writers struct {
	proxy *process

	mu      sync.Mutex
	done    []int // rows that each client knows are written
	ending  bool  // the old writer's sessions are
	cut     int   // sessions that ended with it
	longest time.Duration
}

// start starts them. They work until stop, which waits for the last one.
func (w *writers) start(t *testing.T) (stop func()) {
	ended := make(chan struct{})
	var all sync.WaitGroup
	for client := range w.done {
		all.Go(func() {
			for {
				select {
				case <-ended:
					return
				case <-time.After(20 * time.Millisecond): // think time
					w.session(t, client)
				}
			}
		})
	}
	var once sync.Once
	stop = func() {
		once.Do(func() { close(ended) })
		all.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// session logs in and writes, which must succeed unless its server is ended.
func (w *writers) session(t *testing.T, client int) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	conn, err := w.proxy.connect(ctx, aurora.IAMUser, aurora.Database)
	waited := time.Since(began)
	if err != nil {
		t.Errorf("after %v a client was told: %v", waited, err)
		return
	}
	defer conn.Close(ctx)
	w.mu.Lock()
	n := w.done[client]
	w.mu.Unlock()
	var readOnly string
	if err = conn.QueryRow(ctx, isReadOnly).Scan(&readOnly); err == nil {
		_, err = conn.Exec(ctx, "insert into written values ($1, $2)", client, n)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.longest = max(w.longest, waited)
	var told *pgconn.PgError
	switch {
	case err == nil && readOnly == "off":
		w.done[client]++
	case w.ending && (!errors.As(err, &told) || told.Code == "57P01"): // no proxy can prevent that
		w.cut++
	default:
		t.Errorf("a session with transaction_read_only %q: %v", readOnly, err)
	}
}

func (w *writers) setEnding(ending bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ending = ending
}

// awaitMore waits until each client has written n more rows.
func (w *writers) awaitMore(t *testing.T, n int) {
	t.Helper()
	w.mu.Lock()
	goals := make([]int, len(w.done))
	for i, done := range w.done {
		goals[i] = done + n
	}
	w.mu.Unlock()
	until(t, "the clients to go on", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for i, goal := range goals {
			if w.done[i] < goal {
				return false
			}
		}
		return true
	})
}

// awaitLogin waits until an instance has received another login.
func (w *writers) awaitLogin(t *testing.T, cluster *aurora.Cluster) {
	t.Helper()
	before := len(cluster.Verdicts())
	until(t, "a login to the other instance", func() bool { return len(cluster.Verdicts()) > before })
}

func (w *writers) summary() (longest time.Duration, sessions int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.done {
		sessions += n
	}
	return w.longest, sessions + w.cut
}

// checkWritten fails unless every row that a client knows of exists.
func (w *writers) checkWritten(t *testing.T, cluster *aurora.Cluster) {
	t.Helper()
	rows, err := connectAdmin(t, cluster).Query(t.Context(), "select distinct client, n from written")
	if err != nil {
		t.Fatal(err)
	}
	written := map[[2]int]bool{}
	var client, n int
	_, err = pgx.ForEachRow(rows, []any{&client, &n}, func() error {
		written[[2]int{client, n}] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for client, done := range w.done {
		for n := range done {
			if !written[[2]int{client, n}] {
				t.Errorf("row %d of client %d is lost", n, client)
			}
		}
	}
}

// tcpForward is an address that forwards to another, or refuses connections.
type tcpForward struct {
	address, target string
	listener        net.Listener
}

func startForward(t *testing.T, address, target string) *tcpForward {
	t.Helper()
	f := &tcpForward{address: address, target: target}
	f.open(t)
	f.address = f.listener.Addr().String() // the same again after close
	t.Cleanup(f.close)
	return f
}

func (f *tcpForward) open(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	f.listener = listener
	go acceptForwarded(listener, f.target)
}

// acceptForwarded forwards each connection of a listener to target.
func acceptForwarded(listener net.Listener, target string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			server, err := net.Dial("tcp", target)
			if err != nil {
				conn.Close()
				return
			}
			pipe(conn, server)
		}()
	}
}

// close refuses new connections.
func (f *tcpForward) close() { f.listener.Close() }

func (f *tcpForward) port(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(f.address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
