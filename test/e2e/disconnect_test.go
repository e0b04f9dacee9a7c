//go:build unix

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// TestDisconnect ends a session in every way, once without the proxy and once through it. The
// other side and the server's log must see the same.
func TestDisconnect(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	admin := connectAdmin(t, cluster)
	mustExec(t, admin, "create table sink (line text)")
	mustExec(t, admin, "grant all on sink to "+aurora.IAMUser)
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	token := printToken(t)
	idle := p.descriptors() + loopDescriptors

	const (
		copyIn = "copy sink from stdin"
		// A server that waits for the client to read sends nothing when it is terminated.
		slowCopyOut = "copy (select repeat('x', 10000), pg_sleep(0.01) from generate_series(1, 100000)) to stdout"
		copyOut     = "copy (select repeat('x', 1000), generate_series(1, 100000000)) to stdout"
	)
	for _, test := range []struct {
		name    string
		query   string
		end     func(*endSession, *testing.T)
		by, how string // in the proxy's log
	}{
		{"client terminates", "", (*endSession).terminate, "client", "terminated"},
		{"client closes", "", (*endSession).close, "client", "closed"},
		{"client closes in the middle of COPY in", copyIn, (*endSession).close, "client", "closed"},
		{"client closes in the middle of COPY out", copyOut, (*endSession).close, "client", ""},
		{"client resets", "", (*endSession).reset, "client", "reset"},
		{"client resets in the middle of COPY in", copyIn, (*endSession).reset, "client", "reset"},
		{"client resets in the middle of COPY out", copyOut, (*endSession).reset, "client", "reset"},
		{"client half-closes behind a query", "", (*endSession).halfClose, "client", "closed"},
		{"server says FATAL", "", (*endSession).serverTerminates, "server", "closed"},
		{"server says FATAL in the middle of COPY in", copyIn, (*endSession).serverTerminates, "server", ""},
		{"server says FATAL in the middle of COPY out", slowCopyOut, (*endSession).serverTerminates, "server", "closed"},
		{"server crashes in the middle of COPY in", copyIn, (*endSession).serverCrashes, "server", ""},
		{"server crashes in the middle of COPY out", copyOut, (*endSession).serverCrashes, "server", "closed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.t = t
			direct := startEndSession(t, cluster, test.query, func() net.Conn { return dialServer(t, cluster) }, token)
			test.end(direct, t)
			want := direct.outcome()

			ended := strings.Count(p.logs(), `"msg":"session ended"`)
			proxied := startEndSession(t, cluster, test.query, func() net.Conn { return dial(t, p.listens[0]) }, "")
			test.end(proxied, t)
			if got := proxied.outcome(); got != want {
				t.Errorf("through the proxy:\n%s\nwithout:\n%s", got, want)
			}
			until(t, "the log", func() bool { return strings.Count(p.logs(), `"msg":"session ended"`) > ended })
			line := lastLine(p.logs(), `"msg":"session ended"`)
			if !strings.Contains(line, fmt.Sprintf("%q:%q", "by", test.by)) || test.how != "" && !strings.Contains(line, fmt.Sprintf("%q:%q", "how", test.how)) {
				t.Errorf("log says %s, want that the %s has %s", line, test.by, test.how)
			}
			if n := strings.Count(p.logs(), `"msg":"session ended"`) - ended; n != 1 {
				t.Errorf("%d lines about one end", n)
			}
		})
	}
	p.t = t
	until(t, "all sockets of the proxy's to be closed", func() bool { return p.descriptors() <= idle })
}

func printToken(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := client(ctx, binaryPath(t), "token", aurora.DefaultHost, "--user", aurora.IAMUser)
	cmd.Env = keyEnvironment(aurora.DefaultKey)
	return tokenOf(t, cmd)
}

// dialServer connects to the server without a proxy.
func dialServer(t *testing.T, cluster *aurora.Cluster) net.Conn {
	t.Helper()
	ca, err := os.ReadFile(cluster.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	conn := dial(t, cluster.Addr())
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return tls.Client(conn, &tls.Config{ServerName: aurora.DefaultHost, RootCAs: roots})
}

// endSession is a client's session that is about to end.
type endSession struct {
	*rawSession
	cluster  *aurora.Cluster
	copiesIn bool
	seen     []string // by the client since
}

// startEndSession logs in and starts a query, if there is one.
func startEndSession(t *testing.T, cluster *aurora.Cluster, query string, dial func() net.Conn, token string) *endSession {
	t.Helper()
	s := &endSession{cluster: cluster, rawSession: logInRaw(t, dial(), protocol30, nil, token)}
	if query == "" {
		return s
	}
	s.send(&pgproto3.Query{String: query})
	if _, err := s.frontend.Receive(); err != nil { // the first message of the result
		t.Fatal(err)
	}
	if s.copiesIn = strings.HasSuffix(query, "stdin"); s.copiesIn {
		s.send(&pgproto3.CopyData{Data: []byte("one line\n")})
	}
	return s
}

func (s *endSession) socket() *net.TCPConn {
	if secure, ok := s.conn.(*tls.Conn); ok {
		return secure.NetConn().(*net.TCPConn)
	}
	return s.conn.(*net.TCPConn)
}

func (s *endSession) terminate(*testing.T) {
	s.send(&pgproto3.Terminate{})
	s.conn.Close()
}

// close closes the connection without Terminate.
func (s *endSession) close(*testing.T) { s.conn.Close() }

func (s *endSession) reset(*testing.T) {
	_ = s.socket().SetLinger(0)
	s.socket().Close()
}

func (s *endSession) halfClose(t *testing.T) {
	s.send(&pgproto3.Query{String: "select repeat('x', 10000000)"})
	if err := s.conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	s.watch()
}

func (s *endSession) serverTerminates(t *testing.T) {
	if s.copiesIn {
		go s.keepSending()
	}
	s.ask(t, "select pg_terminate_backend($1)")
	s.watch()
}

func (s *endSession) serverCrashes(t *testing.T) {
	if s.copiesIn {
		go s.keepSending()
	}
	_ = syscall.Kill(int(s.key.ProcessID), syscall.SIGKILL)
	s.watch()
}

// keepSending continues a COPY.
func (s *endSession) keepSending() {
	line, _ := (&pgproto3.CopyData{Data: []byte(strings.Repeat("x", 1000) + "\n")}).Encode(nil)
	for {
		if _, err := s.conn.Write(line); err != nil {
			return
		}
	}
}

func (s *endSession) ask(t *testing.T, sql string) {
	t.Helper()
	admin := connectAdmin(t, s.cluster)
	if _, err := admin.Exec(t.Context(), sql, s.key.ProcessID); err != nil {
		t.Fatal(err)
	}
}

// watch records what the client receives until the end.
func (s *endSession) watch() {
	note := func(what string) {
		if len(s.seen) == 0 || s.seen[len(s.seen)-1] != what { // rows count once
			s.seen = append(s.seen, what)
		}
	}
	for {
		message, err := s.frontend.Receive()
		switch m := message.(type) {
		case nil:
			var slow net.Error
			if errors.As(err, &slow) && slow.Timeout() {
				s.t.Errorf("no end within %v", limit)
			}
			note("end")
			s.conn.Close()
			return
		case *pgproto3.ErrorResponse:
			note(m.Severity + " " + m.Code + " " + m.Message)
		default:
			note(fmt.Sprintf("%T", m))
		}
	}
}

// unimportant matches what varies without the proxy, too: whether a write or a read notices
// first that a client has disconnected.
var unimportant = regexp.MustCompile(`^(LOG:  (connection |could not send data|SSL error: bad length)|CONTEXT:|STATEMENT:)`)

var logPrefix = regexp.MustCompile(`^.* \[(\d+)\] `)

// outcome is what the client and the server's log saw.
func (s *endSession) outcome() string {
	s.t.Helper()
	s.conn.Close()
	var said []string
	until(s.t, "the server's process to end", func() bool { return !alive(int(s.key.ProcessID)) })
	until(s.t, "the server", func() bool {
		conn, err := s.cluster.Admin(context.Background(), aurora.Database)
		if err != nil { // the server recovers from a crash
			return false
		}
		conn.Close(context.Background())
		return true
	})
	log, err := s.cluster.Log()
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(log) {
		prefix := logPrefix.FindStringSubmatch(line)
		if prefix == nil || prefix[1] != fmt.Sprint(s.key.ProcessID) {
			continue
		}
		text := strings.TrimSpace(line[len(prefix[0]):])
		if !unimportant.MatchString(text) {
			said = append(said, text)
		}
	}
	return fmt.Sprintf("client: %s\nserver: %s", strings.Join(s.seen, ", "), strings.Join(slices.Compact(said), ", "))
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func lastLine(log, with string) (last string) {
	for line := range strings.Lines(log) {
		if strings.Contains(line, with) {
			last = strings.TrimSpace(line)
		}
	}
	return last
}
