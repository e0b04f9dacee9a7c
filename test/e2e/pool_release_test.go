//go:build unix

package e2e

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// The connection of a client that disconnects without Terminate is closed, whatever its
// state. After a Terminate it is kept, and has no state of the client.
func TestPoolRelease(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	admin := connectAdmin(t, cluster)
	mustExec(t, admin, "create table lines (line text)")
	mustExec(t, admin, "grant all on lines to public")
	p := startPool(t, cluster)
	const much = "select repeat('x', 1000) from generate_series(1, 100000)" // more than the buffers between server and client
	for _, test := range []struct {
		name string
		does func(s *rawSession)
		kept bool
	}{
		{"in a transaction", func(s *rawSession) { s.mustQuery("begin; create temp table leak (n int)") }, false},
		{"in a failed transaction", func(s *rawSession) {
			s.mustQuery("begin")
			s.send(&pgproto3.Query{String: "select 1/0"})
			s.untilReady()
		}, false},
		{"a result not read", func(s *rawSession) { s.send(&pgproto3.Query{String: much}) }, false},
		{"a result half read", func(s *rawSession) {
			s.send(&pgproto3.Query{String: much})
			s.until('D')
		}, false},
		{"a query at work", func(s *rawSession) { s.send(&pgproto3.Query{String: "select pg_sleep(0.5)"}) }, false},
		{"in COPY from the client", func(s *rawSession) {
			s.send(&pgproto3.Query{String: "copy lines from stdin"})
			s.until('G')
			s.send(&pgproto3.CopyData{Data: []byte("lost\n")})
		}, false},
		{"in COPY to the client", func(s *rawSession) {
			s.send(&pgproto3.Query{String: "copy (" + much + ") to stdout"})
			s.until('d')
		}, false},
		{"with a portal open", func(s *rawSession) {
			s.send(&pgproto3.Parse{Query: "select generate_series(1, 100)"})
			s.send(&pgproto3.Bind{DestinationPortal: "leak"})
			s.send(&pgproto3.Execute{Portal: "leak", MaxRows: 10})
			s.send(&pgproto3.Flush{})
			s.until('s')
		}, false},
		{"without a Sync behind an error", func(s *rawSession) {
			s.send(&pgproto3.Parse{Query: "nonsense"})
			s.send(&pgproto3.Flush{})
			s.until('E')
		}, false},
		{"with a Sync behind an error", func(s *rawSession) {
			s.send(&pgproto3.Parse{Query: "nonsense"})
			s.send(&pgproto3.Sync{})
			s.untilReady()
		}, true},
		{"with a statement prepared", func(s *rawSession) {
			s.send(&pgproto3.Parse{Name: "leak", Query: "select 1"})
			s.send(&pgproto3.Sync{})
			s.untilReady()
		}, true},
		{"COPY done", func(s *rawSession) {
			s.send(&pgproto3.Query{String: "copy lines from stdin"})
			s.until('G')
			s.send(&pgproto3.CopyData{Data: []byte("line\n")})
			s.send(&pgproto3.CopyDone{})
			s.untilReady()
		}, true},
		{"COPY given up", func(s *rawSession) {
			s.send(&pgproto3.Query{String: "copy lines from stdin"})
			s.until('G')
			s.send(&pgproto3.CopyFail{})
			s.untilReady()
		}, true},
		{"a query", func(s *rawSession) {
			s.mustQuery("select 1")
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.t = t
			keeps := p.keeps()
			first := startRaw(t, p, protocol30, nil)
			process := first.mustQuery("select pg_backend_pid()")
			test.does(first)
			first.send(&pgproto3.Terminate{})
			_ = first.conn.Close()
			if test.kept {
				until(t, "the connection to be kept", func() bool { return p.keeps() > keeps })
			} else {
				until(t, "the server's process to end", func() bool {
					return show(t, admin, "select count(*) from pg_stat_activity where pid = "+process) == "0"
				})
			}
			next := startRaw(t, p, protocol30, nil)
			if same := next.mustQuery("select pg_backend_pid()") == process; same != test.kept {
				t.Errorf("the next client has the same connection: %v", same)
			}
			if got := next.mustQuery("select (select count(*) from pg_prepared_statements) + (select count(*) from pg_cursors)"); got != "0" {
				t.Errorf("%s things are left", got)
			}
			if test.kept {
				cancelRaw(t, p, first.key) // of no session
				next.mustQuery("select pg_sleep(0.05)")
				if next.key.ProcessID != first.key.ProcessID || string(next.key.SecretKey) == string(first.key.SecretKey) {
					t.Errorf("the keys are %+v and %+v", first.key, next.key)
				}
			}
			keeps = p.keeps()
			next.send(&pgproto3.Terminate{})
			until(t, "the connection to be kept", func() bool { return p.keeps() > keeps })
		})
	}
	p.t = t
	if got := show(t, admin, "select string_agg(line, ',') from lines"); got != "line" {
		t.Errorf("the table has %q", got)
	}
}

// mustQuery runs statements that must succeed, and returns the last value.
func (s *rawSession) mustQuery(sql string) string {
	s.t.Helper()
	s.send(&pgproto3.Query{String: sql})
	value, code := s.untilReady()
	if code != "" {
		s.t.Fatalf("%s: %s", sql, code)
	}
	return value
}

// until reads up to a message of the type.
func (s *rawSession) until(kind byte) {
	s.t.Helper()
	for {
		m, err := s.frontend.Receive()
		if err != nil {
			s.t.Fatal(err)
		}
		if b, err := m.Encode(nil); err == nil && b[0] == kind {
			return
		}
	}
}

// Connections for replication are not reused.
func TestPoolWithoutReplication(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{Settings: map[string]string{"wal_level": "logical"}})
	mustExec(t, connectAdmin(t, cluster), "alter role "+aurora.IAMUser+" replication")
	p := startPool(t, cluster)
	for _, replication := range []string{"database", "true"} {
		for range 2 {
			if out, err := psqlAt(t, p.conninfo(aurora.IAMUser, aurora.Database)+" replication="+replication, "IDENTIFY_SYSTEM"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
	until(t, "the sessions' ends", func() bool { return strings.Count(p.logs(), `"msg":"session ended"`) == 4 })
	if p.keeps() > 0 || strings.Contains(p.logs(), `"pooled":true`) {
		t.Error("a connection for replication was kept")
	}
}
