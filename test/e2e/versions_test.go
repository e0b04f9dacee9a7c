//go:build unix

package e2e

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

// versionsVariable names the directory with pg12 to pg18, which `make versions` fills.
const versionsVariable = "POSTGRES_VERSIONS"

// versioned is one server, and iamproxy in front of it.
type versioned struct {
	version int
	cluster *aurora.Cluster
	proxy   *process
}

// TestVersions tests what differs between PostgreSQL's versions: the wire protocol, and
// each server's own TLS. These servers are built without LDAP. They compare the token with
// one that the stand-in has verified once.
func TestVersions(t *testing.T) {
	packages := os.Getenv(versionsVariable)
	if packages == "" {
		t.Skip(versionsVariable + " is not set: `make versions` gets these servers and runs this")
	}
	for version := 12; version <= 18; version++ {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			testVersion(t, version, filepath.Join(packages, fmt.Sprint("pg", version), "native"))
		})
	}
}

func testVersion(t *testing.T, version int, native string) {
	settings := map[string]string{}
	if version >= 17 {
		settings["trace_connection_negotiation"] = "on"
	}
	cluster := startCluster(t, &aurora.Cluster{Programs: installServer(t, native), NoLDAP: true, Settings: settings})
	p := startProxy(t, keyEnvironment(keyFor(version)), clusterArgs(cluster)...)
	s := &versioned{version, cluster, p}
	s.learn(t, p, aurora.IAMUser)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *versioned)
		from int // version
	}{
		{"session", testVersionSession, 12},
		{"refusal", testVersionRefusal, 12},
		{"cancel", testVersionCancel, 12},
		{"copy", testVersionCopy, 12},
		{"untrusted certificate", testVersionUntrusted, 12},
		{"protocol versions", testVersionProtocols, 12},
		{"direct TLS", testVersionDirectTLS, 17},
		{"grant", testVersionGrant, 12},
		{"migrate", testVersionMigrate, 12},
	} {
		if version < test.from {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			p.t = t
			test.run(t, s)
		})
	}
	p.t = t
}

// keyFor returns the key to sign with. Before 14, PostgreSQL accepts no password as long as
// a session token makes it; RDS's own servers do.
func keyFor(version int) sigv4.Key {
	if version < 14 {
		return aurora.DefaultKey
	}
	return aurora.DefaultSessionKey
}

// installServer copies a package's server to where its account can read it, unlike perhaps
// the checkout or $TMPDIR, and returns the directory of its programs.
func installServer(t *testing.T, native string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "iamproxy-server-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, command := range [][]string{{"cp", "-R", native + "/.", dir}, {"chmod", "-R", "a+rX", dir}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command[0], err, out)
		}
	}
	// npm's archives have no symbolic links. They are listed in a file, for a script that
	// npm may not be allowed to run.
	list, err := os.ReadFile(filepath.Join(native, "pg-symlinks.json"))
	if err != nil {
		t.Fatal(err)
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(list, &links); err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		target := filepath.Join(dir, strings.TrimPrefix(link.Target, "native/"))
		if err := os.Symlink(filepath.Base(link.Source), target); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "bin")
}

// learn makes the server accept the token with which p logs user in.
func (s *versioned) learn(t *testing.T, p *process, user string) {
	t.Helper()
	s.cluster.ResetVerdicts()
	err := s.cluster.LearnToken(t.Context(), func() {
		if out, _ := p.psql(user, aurora.Database, "select 1"); !strings.Contains(out, "learned the token") {
			t.Errorf("psql printed %q", out)
		}
	})
	if v := s.cluster.Verdicts(); err != nil || len(v) != 1 || !v[0].OK || v[0].User != user {
		t.Fatalf("%v; verdicts %+v", err, v)
	}
}

// connect logs in with pgx; more is added to its connection string.
func (s *versioned) connect(t *testing.T, user, more string) (*pgx.Conn, error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.proxy.conninfo(user, aurora.Database)+" sslmode=disable connect_timeout=60 "+more)
	keepError(t, err)
	if err == nil {
		t.Cleanup(func() { conn.Close(context.Background()) })
	}
	return conn, err
}

func (s *versioned) mustConnect(t *testing.T, more string) *pgx.Conn {
	t.Helper()
	conn, err := s.connect(t, aurora.IAMUser, more)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func testVersionSession(t *testing.T, s *versioned) {
	const who = "select current_user, current_setting('server_version_num')::int / 10000, ssl from pg_stat_ssl where pid = pg_backend_pid()"
	want := fmt.Sprintf("%s|%d|t", aurora.IAMUser, s.version)
	if out := s.proxy.mustPSQL(aurora.IAMUser, aurora.Database, who); out != want {
		t.Errorf("psql printed %q, want %q", out, want)
	}
	conn := s.mustConnect(t, "")
	for i := range 3 { // parsed once, bound three times
		var sum int
		var text string
		err := conn.QueryRow(t.Context(), "select $1::int + 1, $2::text", i, "naïve").Scan(&sum, &text)
		if err != nil || sum != i+1 || text != "naïve" {
			t.Errorf("got %d, %q: %v", sum, text, err)
		}
	}
}

func testVersionRefusal(t *testing.T, s *versioned) {
	s.admin(t, "alter role "+aurora.OtherUser+" password 'no token'")
	_, err := s.connect(t, aurora.OtherUser, "")
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		t.Fatalf("got %v, want the server's refusal", err)
	}
	if refused.Code != "28P01" || refused.Message != `password authentication failed for user "iam_other"` {
		t.Errorf("the client was told %s: %s", refused.Code, refused.Message)
	}
	for _, want := range []string{aurora.DefaultHost + ":5432 in eu-west-1", "rds-db:connect", `User "iam_other" exists`, "Run: iamproxy check "} {
		if !strings.Contains(refused.Hint, want) {
			t.Errorf("hint %q does not name %q", refused.Hint, want)
		}
	}
}

// admin runs a statement without the proxy.
func (s *versioned) admin(t *testing.T, sql string) {
	t.Helper()
	conn, err := s.cluster.Admin(t.Context(), aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// untilActive waits until the session of this process runs a query.
func (s *versioned) untilActive(t *testing.T, pid uint32) {
	t.Helper()
	conn, err := s.cluster.Admin(t.Context(), aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	until(t, "the query to run", func() (active bool) {
		err := conn.QueryRow(t.Context(), "select state = 'active' from pg_stat_activity where pid = $1", pid).Scan(&active)
		if err != nil {
			t.Fatal(err)
		}
		return active
	})
}

func testVersionCancel(t *testing.T, s *versioned) {
	testCancel(t, s.cluster, s.proxy) // psql's Ctrl-C

	conn := s.mustConnect(t, "")
	ended := make(chan error, 1)
	go sleepLong(t.Context(), conn, ended)
	s.untilActive(t, conn.PgConn().PID())
	if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	var cancelled *pgconn.PgError
	if err := <-ended; !errors.As(err, &cancelled) || cancelled.Code != "57014" {
		t.Errorf("the query ended with %v, want 57014", err)
	}
	var alive bool
	if err := conn.QueryRow(t.Context(), "select true").Scan(&alive); err != nil {
		t.Errorf("the session did not go on: %v", err)
	}
}

func sleepLong(ctx context.Context, conn *pgx.Conn, ended chan<- error) {
	_, err := conn.Exec(ctx, "select pg_sleep(600)")
	ended <- err
}

func testVersionCopy(t *testing.T, s *versioned) {
	var rows bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintf(&rows, "%d\trow %x of many\n", i, md5.Sum([]byte(strconv.Itoa(i))))
	}
	conn := s.mustConnect(t, "").PgConn()
	if err := conn.Exec(t.Context(), "create temp table many (id int primary key, line text)").Close(); err != nil {
		t.Fatal(err)
	}
	tag, err := conn.CopyFrom(t.Context(), bytes.NewReader(rows.Bytes()), "copy many from stdin")
	if err != nil || tag.RowsAffected() != 100_000 {
		t.Fatalf("copy in: %s: %v", tag, err)
	}
	want := fmt.Sprintf("%x", md5.Sum(rows.Bytes()))
	sum, err := conn.Exec(t.Context(), "select md5(string_agg(id || E'\\t' || line || E'\\n', '' order by id)) from many").ReadAll()
	if err != nil || string(sum[0].Rows[0][0]) != want {
		t.Errorf("the server has %s, want %s: %v", sum[0].Rows, want, err)
	}
	var back bytes.Buffer
	tag, err = conn.CopyTo(t.Context(), &back, "copy (select * from many order by id) to stdout")
	if err != nil || tag.RowsAffected() != 100_000 || !bytes.Equal(back.Bytes(), rows.Bytes()) {
		t.Errorf("copy out: %s, %d bytes of %d, or others: %v", tag, back.Len(), rows.Len(), err)
	}
}

func testVersionUntrusted(t *testing.T, s *versioned) {
	if err := s.cluster.SetCertificate(t.Context(), aurora.Certificate{OtherCA: true}); err != nil {
		t.Fatal(err)
	}
	expectRefusal(t, s.proxy, aurora.IAMUser, aurora.Database, "is not trusted", "HINT: ")
	if err := s.cluster.SetCertificate(t.Context(), aurora.Certificate{}); err != nil {
		t.Fatal(err)
	}
	s.proxy.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
}

const (
	protocol30 = 3 << 16
	protocol32 = 3<<16 | 2
)

// The server accepts the version that a client requests, or negotiates its newest one. The
// cancel key is longer since 3.2.
func testVersionProtocols(t *testing.T, s *versioned) {
	newest := uint32(protocol30)
	if s.version >= 18 {
		newest = protocol32
	}
	for _, test := range []struct {
		asked   uint32
		options []string // unknown to all servers
	}{
		{protocol30, nil},
		{protocol32, nil},
		{3<<16 | 9999, []string{"_pq_.x"}},
	} {
		t.Run(fmt.Sprint("3.", test.asked&0xffff), func(t *testing.T) {
			granted := min(test.asked, newest)
			session := startRaw(t, s.proxy, test.asked, test.options)
			if negotiated := session.negotiated; granted == test.asked && negotiated != nil {
				t.Errorf("negotiated down to %+v", negotiated)
			} else if granted != test.asked &&
				(negotiated == nil || negotiated.NewestMinorProtocol != granted || !slices.Equal(negotiated.UnrecognizedOptions, test.options)) {
				t.Errorf("negotiation %+v, want 3.%d without %v", negotiated, granted&0xffff, test.options)
			}
			if got, want := len(session.key.SecretKey), keyLength(granted); got != want {
				t.Errorf("a key of %d bytes, want %d", got, want)
			}
			session.send(&pgproto3.Query{String: "select pg_sleep(600)"})
			s.untilActive(t, session.key.ProcessID)
			cancelRaw(t, s.proxy, session.key)
			if value, code := session.untilReady(); code != "57014" {
				t.Errorf("the query ended with %q, %s", value, code)
			}
			session.send(&pgproto3.Query{String: "select 'still here'"})
			if value, code := session.untilReady(); value != "still here" {
				t.Errorf("the session went on with %q, %s", value, code)
			}
		})
	}
	t.Run("pgx with 3.2", func(t *testing.T) {
		conn := s.mustConnect(t, "max_protocol_version=3.2")
		if got, want := len(conn.PgConn().SecretKey()), keyLength(newest); got != want {
			t.Errorf("a key of %d bytes, want %d", got, want)
		}
		if _, err := conn.Exec(t.Context(), "select 1"); err != nil {
			t.Error(err)
		}
	})
}

func keyLength(protocol uint32) int {
	if protocol >= protocol32 {
		return 32
	}
	return 4
}

// The server logs that the connection began with TLS, without an SSLRequest.
func testVersionDirectTLS(t *testing.T, s *versioned) {
	args := clusterArgs(s.cluster)
	args[0] += "?sslnegotiation=direct"
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), args...)
	s.learn(t, p, aurora.OtherUser)
	accepted := func() int {
		log, err := s.cluster.Log()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(log, "direct SSL connection accepted")
	}
	before := accepted()
	if out := p.mustPSQL(aurora.OtherUser, aurora.Database, isTLS); out != "t" {
		t.Errorf("psql printed %q", out)
	}
	if accepted() == before {
		t.Error("the server saw no direct TLS")
	}
	if err := s.cluster.SetCertificate(t.Context(), aurora.Certificate{OtherCA: true}); err != nil {
		t.Fatal(err)
	}
	expectRefusal(t, p, aurora.OtherUser, aurora.Database, "is not trusted")
	if err := s.cluster.SetCertificate(t.Context(), aurora.Certificate{}); err != nil {
		t.Fatal(err)
	}
}
