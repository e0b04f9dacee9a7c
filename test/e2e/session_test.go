//go:build unix

package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/conntest"
)

func TestEndToEnd(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)

	for _, test := range []struct {
		name string
		run  func(*testing.T, *aurora.Cluster, *process)
	}{
		{"first query", testFirstQuery},
		{"tokens are shared", testTokensAreShared},
		{"newest protocol, query in the same segment", testNewestProtocol},
		{"cancel", testCancel},
		{"pgbench", testPgbench},
		{"refusals", testRefusals},
		{"hostile clients leave nothing behind", testHostileClients},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.t = t
			cluster.ResetVerdicts()
			test.run(t, cluster, p)
		})
	}
	p.t = t
}

const isTLS = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"

func testFirstQuery(t *testing.T, cluster *aurora.Cluster, p *process) {
	if out := p.mustPSQL(aurora.IAMUser, aurora.Database, isTLS); out != "t" {
		t.Errorf("psql printed %q", out)
	}
	verdicts := cluster.Verdicts()
	if len(verdicts) != 1 || !verdicts[0].OK || verdicts[0].Claims.Path != "/" {
		t.Errorf("verdicts %+v", verdicts)
	}
}

func testTokensAreShared(t *testing.T, cluster *aurora.Cluster, p *process) {
	for range 40 {
		p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	}
	p.mustPSQL(aurora.OtherUser, aurora.Database, "select 1")
	byUser := map[string]map[string]bool{}
	for _, v := range cluster.Verdicts() {
		if !v.OK || v.User != v.Claims.User {
			t.Errorf("verdict %+v", v)
		}
		if byUser[v.User] == nil {
			byUser[v.User] = map[string]bool{}
		}
		byUser[v.User][v.Fingerprint] = true
	}
	if n := len(byUser[aurora.IAMUser]); n > 2 {
		t.Errorf("40 connections signed %d tokens", n)
	}
	if n := len(byUser[aurora.OtherUser]); n != 1 {
		t.Errorf("the other user has %d tokens", n)
	}
}

func testNewestProtocol(t *testing.T, _ *aurora.Cluster, p *process) {
	startup := pgproto3.StartupMessage{ProtocolVersion: 3<<16 | 9999, Parameters: map[string]string{
		"user": aurora.IAMUser, "database": aurora.Database, "_pq_.test_protocol_negotiation": ""}}
	segment, err := startup.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	segment, err = (&pgproto3.Query{String: "select 'early bird'"}).Encode(segment)
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, p.listens[0])
	if _, err := conn.Write(segment); err != nil {
		t.Fatal(err)
	}
	kinds, bodies := "", ""
	for strings.Count(kinds, "Z") < 2 {
		kind, body := readMessage(t, conn)
		kinds += string(kind)
		bodies += body
		if kind == 'E' {
			t.Fatalf("error %q", body)
		}
	}
	// PostgreSQL before 19 negotiates an older minor version.
	if kinds[0] != 'v' || !strings.Contains(bodies, "_pq_.test_protocol_negotiation") {
		t.Errorf("no negotiation in %s", kinds)
	}
	if !strings.HasSuffix(kinds, "ZTDCZ") || !strings.Contains(bodies, "early bird") {
		t.Errorf("the query in the startup packet's segment was answered with %s", kinds)
	}
}

func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(limit))
	return conn
}

func readMessage(t testing.TB, conn net.Conn) (kind byte, body string) {
	t.Helper()
	head := make([]byte, 5)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	if _, err := io.ReadFull(conn, rest); err != nil {
		t.Fatal(err)
	}
	return head[0], string(rest)
}

func testPgbench(t *testing.T, _ *aurora.Cluster, p *process) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*limit)
	defer cancel()
	for _, args := range [][]string{
		{"-i", "-q", "-s", "1"},
		{"-n", "-c", "32", "-j", "2", "-t", "20"},
		{"-n", "-S", "-M", "prepared", "-c", "32", "-j", "2", "-t", "100"},
	} {
		cmd := client(ctx, "pgbench", append(args, "-h", "127.0.0.1", "-p", p.port(), "-U", aurora.IAMUser, aurora.Database)...)
		out, err := combinedOutput(t, cmd)
		if err != nil || strings.Contains(string(out), "aborted") {
			t.Fatalf("pgbench %s: %v: %s", args, err, out)
		}
	}
}

func testRefusals(t *testing.T, cluster *aurora.Cluster, p *process) {
	expectRefusal(t, p, aurora.PlainUser, aurora.Database,
		`server requested SCRAM authentication for user "plain_user" instead of a token`, `User "plain_user" does not exist`)
	expectRefusal(t, p, aurora.IAMUser, "nowhere", `database "nowhere" does not exist`)
	if verdicts := cluster.Verdicts(); len(verdicts) != 1 || !verdicts[0].OK {
		t.Errorf("verdicts %+v, want one, of the login to the database that is not there", verdicts)
	}
}

// expectRefusal fails unless psql prints a FATAL error with the cause.
func expectRefusal(t *testing.T, p *process, user, database string, wants ...string) {
	t.Helper()
	out, err := p.psql(user, database, "select 1")
	if err == nil {
		t.Fatalf("psql got in: %s", out)
	}
	for _, want := range append(wants, "FATAL: ") {
		if !strings.Contains(out, want) {
			t.Errorf("psql printed %q, want it to name %q", out, want)
		}
	}
}

// Clients that send garbage, half a packet or nothing are disconnected, and others are
// served.
func testHostileClients(t *testing.T, _ *aurora.Cluster, p *process) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	bystander := client(ctx, "psql", "-X", "-w", "-A", "-t", p.conninfo(aurora.IAMUser, aurora.Database))
	in, err := bystander.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	bystander.Stdout, bystander.Stderr = &out, &out
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the bystander's session", func() bool {
		return strings.Count(p.logs(), `"msg":"session opened"`) > strings.Count(p.logs(), `"msg":"session ended"`)
	})

	before := p.descriptors()
	for i := range 200 {
		conn := dial(t, p.listens[0])
		switch i % 4 {
		case 0:
			_, _ = conn.Write(bytes.Repeat([]byte{0xff}, 100))
		case 1:
			_, _ = conn.Write([]byte{0, 0, 1, 0, 0, 3, 0, 0, 'u'})
		case 2:
			_, _ = conn.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
		}
		conn.Close()
	}
	until(t, "the sockets to be closed", func() bool { return p.descriptors() <= before })
	fmt.Fprintln(in, "select 'undisturbed';")
	in.Close()
	if err := bystander.Wait(); err != nil || strings.TrimSpace(out.String()) != "undisturbed" {
		t.Errorf("bystander: %v: %s", err, out.String())
	}
}

// loopDescriptors is the number of descriptors of an event loop, which the first session starts.
const loopDescriptors = 2

// descriptors returns the number of open file descriptors. Only the process itself can
// count them: see its metrics.
func (p *process) descriptors() int {
	p.t.Helper()
	n, ok := p.metrics()["process_open_fds"]
	if !ok {
		p.t.Skip("descriptors are not counted here")
	}
	return int(n)
}

func TestFixedUserAndDatabase(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	_, port, err := net.SplitHostPort(cluster.Addr())
	if err != nil {
		t.Fatal(err)
	}
	args := clusterArgs(cluster, "--database="+aurora.Database)
	args[0] += "?user=" + aurora.IAMUser + "&via=localhost:" + port // in the endpoint instead
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), args...)
	if out := p.mustPSQL("whoever", "whatever", "select current_user, current_database()"); out != "iam_user|mydb" {
		t.Errorf("psql printed %q", out)
	}
}

func TestSeveralEndpoints(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	first := aurora.DefaultHost + "?via=" + cluster.Addr()
	second := aurora.DefaultHost + "?via=" + cluster.Addr() + "&user=" + aurora.OtherUser + "&listen=localhost:0"
	p := startProxy(t, append(keyEnvironment(aurora.DefaultKey), "IAMPROXY_LISTEN=127.0.0.1:0", "IAMPROXY_CA_FILE="+cluster.CAFile()),
		"run", first, second)
	if out := p.mustPSQL(aurora.IAMUser, aurora.Database, "select current_user"); out != aurora.IAMUser {
		t.Errorf("the first endpoint printed %q", out)
	}
	testCancel(t, cluster, p)
	p.listens = p.listens[1:]
	if out := p.mustPSQL(aurora.IAMUser, aurora.Database, "select current_user"); out != aurora.OtherUser {
		t.Errorf("the second endpoint printed %q", out)
	}
	testCancel(t, cluster, p)
}

func TestSignals(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for name, end := range map[string]func(p *process, in io.WriteCloser, out *bytes.Buffer){
		"drained": func(p *process, in io.WriteCloser, out *bytes.Buffer) {
			until(t, "draining", func() bool { return strings.Contains(p.logs(), `"msg":"draining`) })
			expectRefusal(t, p, aurora.IAMUser, aurora.Database, "shutting down")
			fmt.Fprintln(in, "commit; select 'committed';")
			in.Close()
		},
		"second signal": func(p *process, in io.WriteCloser, _ *bytes.Buffer) {
			until(t, "draining", func() bool { return strings.Contains(p.logs(), `"msg":"draining`) })
			p.signal(os.Interrupt)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
			psql := client(ctx, "psql", "-X", "-w", "-A", "-t", p.conninfo(aurora.IAMUser, aurora.Database))
			in, err := psql.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			psql.Stdout, psql.Stderr = &out, &out
			if err := psql.Start(); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(in, "begin;")
			until(t, "the session", func() bool { return strings.Contains(p.logs(), `"msg":"session opened"`) })
			p.signal(syscall.SIGTERM)
			end(p, in, &out)
			if code := p.wait(); code != 0 {
				t.Errorf("ended with %d", code)
			}
			in.Close()
			_ = psql.Wait()
			keep(t, "psql", out.String())
			if name == "drained" && !strings.Contains(out.String(), "committed") {
				t.Errorf("psql printed %q", out.String())
			}
		})
	}
}

// Sessions survive the reader of the log.
func TestLogReaderGone(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	p.stderr.Close()
	for range 3 {
		p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	}
}

// Without an admin server, wait connects to the listener.
func TestWaitForTheListener(t *testing.T) {
	t.Parallel()
	address := conntest.FreeAddress(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	early := client(ctx, binaryPath(t), "wait", "--admin=off", "--listen="+address, "--timeout=60s")
	if err := early.Start(); err != nil {
		t.Fatal(err)
	}
	startProxy(t, keyEnvironment(aurora.DefaultKey), aurora.DefaultHost, "--listen="+address, "--admin=off")
	if err := early.Wait(); err != nil {
		t.Errorf("wait: %v", err)
	}
}

// A client whose first message is Terminate, as that of node-postgres if it disconnects before it
// has connected, requested nothing. It gets no error.
func TestReportTerminateFirst(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	startup := pgwire.StartupMessage{Version: 3 << 16, Parameters: []pgwire.Parameter{{Name: "user", Value: aurora.IAMUser}}}
	for _, after := range [][]byte{nil, startup.Encode()} { // node-postgres sends it all the same
		conn := dial(t, p.listens[0])
		if _, err := conn.Write(append([]byte("X\x00\x00\x00\x04"), after...)); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
			t.Errorf("got %q, %v", rest, err)
		}
	}
	if _, metrics := p.get("/metrics"); !strings.Contains(metrics, `result="failed"} 0`) {
		t.Error("it counts as a failed login")
	}
	if countClientWarnings(p) > 0 {
		t.Error("it logged a warning")
	}
}

// A login with names of more than 63 bytes is one with what the server keeps of them. Commands
// that have such a name in their flags refuse it, each in the same words.
func TestReport11LongNames(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	admin := connectAdmin(t, cluster)
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	ascii, accents := "svc_billing_"+strings.Repeat("0", 51)+"7", strings.Repeat("é", 32)
	for name, kept := range map[string]string{ascii: ascii[:63], accents: accents[:62]} {
		for _, sql := range []string{"create role %q login", "grant rds_iam to %q", "create database %q"} {
			mustExec(t, admin, fmt.Sprintf(sql, name))
		}
		if out := p.mustPSQL(name, name, "select session_user || ' ' || current_database()"); out != kept+" "+kept {
			t.Errorf("logged in as %s", out)
		}
	}
	out, err := p.psql("another_"+ascii, aurora.Database, "select 1")
	if err == nil || !strings.Contains(out, ("another_" + ascii)[:63]) || strings.Contains(out, "another_"+ascii) {
		t.Errorf("psql printed %q", out)
	}
	for _, args := range [][]string{{"run"}, {"check"}, {"token"}, {"policy", "--account=111122223333", "--resource-id=cluster-A"}, {"grant"}} {
		cmd := client(t.Context(), binaryPath(t), append(args, aurora.DefaultHost, "--user="+ascii)...)
		out, _ := combinedOutput(t, cmd)
		if cmd.ProcessState.ExitCode() != 2 || !strings.HasSuffix(string(out), "user: a name in PostgreSQL has at most 63 bytes, and this one has 64\n") {
			t.Errorf("%s: exit code %d: %s", args[0], cmd.ProcessState.ExitCode(), out)
		}
	}
}
