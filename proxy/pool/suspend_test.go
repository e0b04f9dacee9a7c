package pool

import (
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/internal/age/agetest"
	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

// The age of a connection includes the time in which the machine was suspended.
func TestPoolAfterSuspension(t *testing.T) {
	idleSince := func(c *Conn) *time.Time { return &c.idleSince }
	loggedIn := func(c *Conn) *time.Time { return &c.loggedIn }
	for name, test := range map[string]struct {
		since     func(*Conn) *time.Time
		suspended time.Duration
	}{
		"idle":      {idleSince, serverIdleTimeout},
		"logged in": {loggedIn, serverLifetime},
	} {
		t.Run(name, func(t *testing.T) {
			p := Pool{MaxIdle: 1}
			conn := newConn("x")
			p.add(conn)
			agetest.Suspend(test.since(conn), test.suspended)
			if p.take("x") != nil {
				t.Error("taken")
			}
			if p.Expire(time.Now()); !conn.isClosed() {
				t.Error("not closed")
			}
		})
	}
	t.Run("in use", func(t *testing.T) {
		p := Pool{MaxIdle: 1, inUse: 1}
		conn := newConn("x")
		agetest.Suspend(&conn.loggedIn, serverLifetime)
		if p.startReset(conn) != nil {
			t.Error("kept")
		}
	})
}

// After a suspension, the server is asked whether it still answers.
func TestValidateAfterSuspension(t *testing.T) {
	conn, server := connect(t, &Pool{MaxIdle: 1}, nil)
	conn.idleSince = time.Now()
	agetest.Suspend(&conn.idleSince, time.Minute)
	if err := conn.Validate(time.Minute, false); err != nil {
		t.Error(err)
	}
	if got := server.transcript(); got != "S" {
		t.Errorf("the server received %q", got)
	}
	if conn.IdleTime() < time.Minute {
		t.Errorf("idle for %v", conn.IdleTime())
	}
}

// suspendedConn is a connection of a process that is suspended when a read begins, until long
// after the read's deadline. The answer arrives meanwhile.
type suspendedConn struct {
	net.Conn
	suspended sync.Once
}

func (c *suspendedConn) Read(b []byte) (n int, err error) {
	c.suspended.Do(func() {
		time.Sleep(time.Hour)
		err = os.ErrDeadlineExceeded
	})
	if err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// A reset that a suspension interrupts continues if the server has answered. A timeout of a
// process that was running is not extended.
func TestResetDuringSuspension(t *testing.T) {
	for name, test := range map[string]struct {
		respond func(*server, string)
		kept    bool
		took    time.Duration
	}{
		"answered":   {nil, true, time.Hour},
		"unanswered": {insteadOf("DISCARD ALL"), false, time.Hour + serverResetTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &Pool{MaxIdle: 1}
				ours, theirs := net.Pipe()
				defer theirs.Close()
				s := &server{Conn: theirs, respond: test.respond}
				go s.serve()
				reply := slices.Concat(pgwire.Encode(authOK), pgwire.Encode(&pgproto3.ReadyForQuery{TxStatus: 'I'}))
				conn, err := p.New(&upstream.Conn{Conn: netconn.New(&suspendedConn{Conn: ours})}, "key", reply)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				began := time.Now()
				err = p.Put(conn)
				if took := time.Since(began); (err == nil) != test.kept || took != test.took {
					t.Errorf("%v after %v", err, took)
				}
			})
		})
	}
}

// A server has a multiple of the time of its login to answer, within limits.
func TestCheckTimeout(t *testing.T) {
	for _, test := range []struct{ tls, login, want time.Duration }{
		{0, 0, minCheckTimeout},
		{10 * time.Millisecond, 90 * time.Millisecond, 400 * time.Millisecond},
		{time.Second, time.Minute, maxCheckTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			conn, _ := connect(t, &Pool{MaxIdle: 1}, insteadOf("S"))
			conn.Timings = upstream.Timings{TLS: test.tls, Login: test.login}
			conn.idleSince = time.Now()
			time.Sleep(time.Minute)
			began := time.Now()
			err := conn.Validate(time.Minute, false)
			if took := time.Since(began).Truncate(10 * time.Millisecond); !netconn.IsTimeout(err) || took != test.want {
				t.Errorf("TLS %v, login %v: %v after %v, want %v", test.tls, test.login, err, took, test.want)
			}
		})
	}
}

// A process that is suspended while it resets a connection finds the answer when it continues. The
// connection may be lost by then, so the server is asked.
func TestIdleTimeIncludesReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Pool{MaxIdle: 1, inUse: 1}
		conn := newConn("x")
		reset := p.startReset(conn)
		time.Sleep(time.Hour)
		p.finishReset(reset, true)
		if got := conn.IdleTime(); got != time.Hour {
			t.Errorf("idle for %v", got)
		}
	})
}
