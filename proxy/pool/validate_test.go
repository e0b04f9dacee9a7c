package pool

import (
	"bufio"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

// server is the scripted end of a connection to the server.
type server struct {
	net.Conn
	respond func(s *server, request string) // nil: as a server that completes every request

	mu       sync.Mutex
	received []string // the text of a query, or the message type
}

// connect returns a connection of the pool that has just logged in, and its server.
func connect(t *testing.T, p *Pool, respond func(s *server, request string)) (*Conn, *server) {
	t.Helper()
	ours, theirs := net.Pipe()
	s := &server{Conn: theirs, respond: respond}
	go s.serve()
	reply := slices.Concat(pgwire.Encode(authOK), pgwire.Encode(&pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"}), pgwire.Encode(ready))
	conn, err := p.New(&upstream.Conn{Conn: netconn.New(ours), Address: "10.0.0.1:5432"}, "key", reply)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return conn, s
}

func (s *server) serve() {
	requests := bufio.NewReader(s) // a write with two requests must not wait for the first response
	for {
		m, err := pgwire.ReadMessage(requests)
		if err != nil {
			return
		}
		request := string(m[0])
		if m.Type() == pgwire.Query {
			request = strings.TrimSuffix(string(m.Body()), "\x00")
		}
		if strings.Contains(request, "pg_is_in_recovery") {
			request = readOnlyQuery
		}
		s.mu.Lock()
		s.received = append(s.received, request)
		s.mu.Unlock()
		if s.respond == nil {
			complete(s, request)
		} else {
			s.respond(s, request)
		}
	}
}

func (s *server) transcript() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.received, ", ")
}

func (s *server) send(messages ...pgproto3.BackendMessage) {
	var b []byte
	for _, m := range messages {
		b = append(b, pgwire.Encode(m)...)
	}
	_, _ = s.Write(b)
}

// readOnlyQuery stands for the query of upstream.CheckWritable.
const readOnlyQuery = "read-only?"

// complete responds like an idle server.
func complete(s *server, request string) {
	switch request {
	case "S":
		s.send(ready)
	case "X":
		s.Close()
	default:
		s.send(&pgproto3.CommandComplete{CommandTag: []byte(request)}, ready)
	}
}

// insteadOf returns a server that sends messages in response to one request.
func insteadOf(request string, messages ...pgproto3.BackendMessage) func(*server, string) {
	return func(s *server, r string) {
		if r != request {
			complete(s, r)
			return
		}
		s.send(messages...)
	}
}

// Put keeps a connection only after a reset that succeeds and leaves the server idle.
func TestPut(t *testing.T) {
	inTransaction := &pgproto3.ReadyForQuery{TxStatus: 'T'}
	failure := &pgproto3.ErrorResponse{Severity: "ERROR", Code: "55P03", Message: "no"}
	for name, test := range map[string]struct {
		respond func(*server, string)
		kept    bool
		took    time.Duration
	}{
		"reset":                       {nil, true, 0},
		"notices and settings":        {insteadOf("RESET ROLE", &pgproto3.NoticeResponse{}, &pgproto3.ParameterStatus{Name: "TimeZone", Value: "CET"}, ready), true, 0},
		"DISCARD ALL fails":           {insteadOf("DISCARD ALL", failure, ready), false, 0},
		"RESET ROLE fails":            {insteadOf("RESET ROLE", failure, ready), false, 0},
		"transaction after the reset": {insteadOf("RESET ROLE", inTransaction), false, 0},
		"unrequested response":        {insteadOf("RESET ROLE", ready, ready), false, 0},
		"server closes":               {func(s *server, _ string) { s.Close() }, false, 0},
		"no response":                 {insteadOf("DISCARD ALL"), false, serverResetTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &Pool{MaxIdle: 1}
				conn, server := connect(t, p, test.respond)
				p.expectStats(t, 0, 1)
				began := time.Now()
				err := p.Put(conn)
				if took := time.Since(began); (err == nil) != test.kept || took != test.took {
					t.Errorf("%v after %v", err, took)
				}
				if !test.kept {
					p.expectStats(t, 0, 0)
					return
				}
				p.expectStats(t, 1, 0)
				if got := server.transcript(); got != "DISCARD ALL, RESET ROLE" {
					t.Errorf("the server received %q", got)
				}
			})
		})
	}
}

// While a reset takes long, a client waits for it only for resetWait.
func TestGetDuringReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{MaxIdle: 1}
		conn, _ := connect(t, p, insteadOf("DISCARD ALL"))
		put := make(chan error)
		go func() { put <- p.Put(conn) }()
		synctest.Wait()
		began := time.Now()
		if p.Get("key", nil) != nil || time.Since(began) != resetWait {
			t.Errorf("waited %v", time.Since(began))
		}
		if err := <-put; !netconn.IsTimeout(err) {
			t.Errorf("got %v", err)
		}
	})
}

// A connection that Put must not keep is closed with Terminate, without a reset.
func TestPutAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{MaxIdle: 1}
		conn, server := connect(t, p, nil)
		p.Close()
		if err := p.Put(conn); !errors.Is(err, errExpired) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if got := server.transcript(); got != "X" {
			t.Errorf("the server received %q", got)
		}
	})
}

func TestValidate(t *testing.T) {
	for name, test := range map[string]struct {
		idle     func(s *server) // while the connection is idle; may be nil
		respond  func(*server, string)
		idleFor  time.Duration
		writable bool
		valid    bool
		took     time.Duration
		received string
	}{
		"just become idle":     {valid: true},
		"idle for a moment":    {idleFor: serverCheckDelay / 2, valid: true},
		"idle longer":          {idleFor: serverCheckDelay + 1, valid: true, received: "S"},
		"no response":          {idleFor: time.Minute, respond: insteadOf("S"), took: minCheckTimeout, received: "S"},
		"closed":               {idle: func(s *server) { s.Close() }},
		"FATAL":                {idle: func(s *server) { s.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P01"}) }},
		"unrequested response": {idle: func(s *server) { s.send(ready, &pgproto3.DataRow{}) }},
		"setting and notification": {idle: func(s *server) {
			s.send(&pgproto3.ParameterStatus{Name: "a", Value: "b"}, &pgproto3.NotificationResponse{})
		}, valid: true},
		"writable": {
			respond:  insteadOf(readOnlyQuery, &pgproto3.DataRow{Values: [][]byte{[]byte("f")}}, ready),
			writable: true, valid: true, received: readOnlyQuery,
		},
		"not writable": {
			respond:  insteadOf(readOnlyQuery, &pgproto3.DataRow{Values: [][]byte{[]byte("t")}}, ready),
			writable: true, received: readOnlyQuery,
		},
		"reported standby": {
			idle:     func(s *server) { s.send(&pgproto3.ParameterStatus{Name: upstream.InHotStandby, Value: "on"}) },
			writable: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &Pool{MaxIdle: 1}
				conn, server := connect(t, p, test.respond)
				conn.idleSince = time.Now()
				time.Sleep(test.idleFor)
				if test.idle != nil {
					go test.idle(server)
					synctest.Wait()
				}
				began := time.Now()
				err := conn.Validate(time.Minute, test.writable)
				took := time.Since(began).Truncate(10 * time.Millisecond) // without the polls
				if (err == nil) != test.valid || took != test.took {
					t.Errorf("%v after %v", err, took)
				}
				if got := server.transcript(); got != test.received {
					t.Errorf("the server received %q, want %q", got, test.received)
				}
			})
		})
	}
}
