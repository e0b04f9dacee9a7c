//go:build unix

package e2e

import (
	"bytes"
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// The proxy passes all messages on unchanged.
func TestStream(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--connect-timeout=2s")...)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *aurora.Cluster, *process)
	}{
		{"startup parameters", testStartupParameters},
		{"asynchronous messages", testAsynchronousMessages},
		{"prepared statements", testPreparedStatements},
		{"pipeline", testPipeline},
		{"parameter of 100 MB", testLargeParameter},
		{"row of 1 GB", testLargestRow},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.t = t
			test.run(t, cluster, p)
		})
	}
	p.t = t
}

func mustConnect(t *testing.T, conninfo string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), conninfo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// They arrive as they were sent.
func testStartupParameters(t *testing.T, cluster *aurora.Cluster, p *process) {
	const show = "select current_setting('application_name'), current_setting('client_encoding'), current_setting('work_mem'), " +
		"current_setting('search_path'), current_setting('DateStyle')"
	const more = ` application_name='it\'s mine' client_encoding=latin1 options='-c work_mem=7MB --search-path=a,b -c DateStyle=German,\\ YMD'`
	through, err := psqlAt(t, p.conninfo(aurora.IAMUser, aurora.Database)+more, show)
	if err != nil {
		t.Fatalf("%v: %s", err, through)
	}
	if want := "it's mine|LATIN1|7MB|a,b|German, YMD"; through != want {
		t.Errorf("through the proxy %q, want %q", through, want)
	}
	// The parameters that the server reports are unchanged.
	direct := connectAdmin(t, cluster)
	proxied := mustConnect(t, p.conninfo(aurora.IAMUser, aurora.Database))
	for _, name := range []string{"server_version", "server_encoding", "client_encoding", "integer_datetimes", "standard_conforming_strings", "TimeZone", "IntervalStyle"} {
		if got, want := proxied.PgConn().ParameterStatus(name), direct.PgConn().ParameterStatus(name); got != want || want == "" {
			t.Errorf("%s is %q through the proxy, %q without", name, got, want)
		}
	}
}

// A session that listens receives notifications long after --connect-timeout.
func testAsynchronousMessages(t *testing.T, _ *aurora.Cluster, p *process) {
	listener := mustConnect(t, p.conninfo(aurora.IAMUser, aurora.Database))
	mustExec(t, listener, "listen news")
	speaker := mustConnect(t, p.conninfo(aurora.IAMUser, aurora.Database))
	mustExec(t, speaker, "select pg_sleep(3)") // longer than --connect-timeout
	mustExec(t, speaker, "notify news, 'of the day'")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if n, err := listener.WaitForNotification(ctx); err != nil || n.Payload != "of the day" {
		t.Errorf("got %+v, %v", n, err)
	}
	var notices []string
	config := listener.Config().Copy()
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message) }
	noisy, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	defer noisy.Close(ctx)
	mustExec(t, noisy, "do $$ begin raise notice 'one'; raise warning 'two'; end $$; set timezone = 'Asia/Tokyo'")
	if strings.Join(notices, ",") != "one,two" || noisy.PgConn().ParameterStatus("TimeZone") != "Asia/Tokyo" {
		t.Errorf("notices %q, time zone %q", notices, noisy.PgConn().ParameterStatus("TimeZone"))
	}
}

func testPreparedStatements(t *testing.T, _ *aurora.Cluster, p *process) {
	conn := mustConnect(t, p.conninfo(aurora.IAMUser, aurora.Database))
	const statements = 1000
	for i := range statements {
		if _, err := conn.Prepare(t.Context(), fmt.Sprint("s", i), fmt.Sprintf("select $1::int + %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range statements {
		var sum int
		if err := conn.QueryRow(t.Context(), fmt.Sprint("s", i), 1).Scan(&sum); err != nil || sum != i+1 {
			t.Fatalf("statement %d: %d, %v", i, sum, err)
		}
	}
}

// A client sends ten thousand requests before it reads the first answer, with an error
// among them.
func testPipeline(t *testing.T, _ *aurora.Cluster, p *process) {
	conn := startRaw(t, p, protocol30, nil)
	const requests = 10_000
	var sent []byte
	for i := range requests {
		query := fmt.Sprintf("select %d", i)
		if i == requests/2 {
			query = "select 1/0"
		}
		for _, message := range []pgproto3.FrontendMessage{&pgproto3.Parse{Query: query}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}} {
			var err error
			if sent, err = message.Encode(sent); err != nil {
				t.Fatal(err)
			}
		}
	}
	go func() { _, _ = conn.conn.Write(sent) }()
	for i := range requests {
		value, code := conn.untilReady()
		if i == requests/2 {
			if code != "22012" {
				t.Fatalf("answer %d is %q, %s, want division by zero", i, value, code)
			}
		} else if value != fmt.Sprint(i) {
			t.Fatalf("answer %d is %q, %s", i, value, code)
		}
	}
}

func testLargeParameter(t *testing.T, _ *aurora.Cluster, p *process) {
	conn := mustConnect(t, p.conninfo(aurora.IAMUser, aurora.Database))
	data := bytes.Repeat([]byte("0123456789abcdef"), 100<<20/16)
	var sum string
	if err := conn.QueryRow(t.Context(), "select md5($1::bytea)", data).Scan(&sum); err != nil || sum != fmt.Sprintf("%x", md5.Sum(data)) {
		t.Errorf("the server got something of the sum %s, %v", sum, err)
	}
}

// The server has 1 GB for the whole message.
func testLargestRow(t *testing.T, _ *aurora.Cluster, p *process) { testRow(t, p, 1_000_000_000) }

func testLargeRow(t *testing.T, _ *aurora.Cluster, p *process) { testRow(t, p, 100_000_000) }

func testRow(t *testing.T, p *process, size int64) {
	conn := startRaw(t, p, protocol30, nil)
	conn.send(&pgproto3.Query{String: fmt.Sprintf("select repeat('0123456789', %d)", size/10)})
	_ = conn.conn.SetDeadline(time.Now().Add(3 * limit))
	var received, values int64
	for {
		kind, length, err := nextHeader(conn.conn)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.CopyN(io.Discard, conn.conn, length)
		if err != nil {
			t.Fatalf("after %d bytes: %v", received+n, err)
		}
		if kind == 'E' {
			t.Fatal("the server says no")
		}
		if kind == 'D' {
			received, values = n, values+1
		}
		if kind == 'Z' {
			break
		}
	}
	if values != 1 || received != size+6 { // the number of columns, and the length
		t.Errorf("%d rows, the last of %d bytes", values, received)
	}
}

func nextHeader(conn net.Conn) (kind byte, length int64, err error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(conn, head); err != nil {
		return 0, 0, err
	}
	return head[0], int64(head[1])<<24 | int64(head[2])<<16 | int64(head[3])<<8 | int64(head[4]) - 4, nil
}
