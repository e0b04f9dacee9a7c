package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// What is to be seen of a session while it lasts, and after.
func TestStatusOfSessions(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	var mu sync.Mutex
	var observed []stats.LoginTimings
	p, address := start(t, ca, s, func(p *Proxy) {
		p.Observe = func(l stats.LoginTimings) { mu.Lock(); defer mu.Unlock(); observed = append(observed, l) }
	})
	client := dial(t, address)
	name := strings.Repeat("ä", 40) // 80 bytes
	client.send(startupPacket(3<<16, "user", "alice", "database", "mydb", "application_name", name))
	for client.message()[0] != pgwire.ReadyForQuery {
	}
	client.send([]byte("hello"))
	client.expect([]byte("hello"))
	until(t, "the bytes to be counted", func() bool { c := p.Counts(); return c.Up == 5 && c.Down == 5 })
	open := p.Sessions()
	if len(open) != 1 {
		t.Fatalf("sessions %+v", open)
	}
	got := open[0]
	if got.User != "alice" || got.Database != "mydb" || got.ApplicationName != name[:62] || got.Client != client.raw.LocalAddr().String() ||
		got.Server != s.addr() || got.Up != 5 || got.Down != 5 || time.Since(got.Began) > limit {
		t.Errorf("session %+v", got)
	}
	if users := p.Users(); len(users) != 1 || users[0] != "alice" {
		t.Errorf("users %q", users)
	}
	server := p.Server()
	if server.Address != s.addr() || server.Version != "17.2" || server.TLS != "TLS 1.3" || server.CertificateExpiry.Before(time.Now()) {
		t.Errorf("server %+v", server)
	}
	client.Close()
	until(t, "the session to end", func() bool { return p.Counts().Sessions == 0 })
	if c := p.Counts(); c.Up != 5 || c.Down != 5 || c.Results[stats.OK] != 1 || len(p.Sessions()) != 0 {
		t.Errorf("counts %+v", c)
	}
	mu.Lock()
	defer mu.Unlock()
	logins := p.Logins()
	if len(observed) != 1 || len(logins) != 1 || observed[0] != logins[0] {
		t.Fatalf("observed %+v, remembered %+v", observed, logins)
	}
	login := logins[0]
	sum := login.Queue + login.Resolve + login.Dial + login.TLS + login.Login
	if login.Attempts != 1 || login.Dial <= 0 || login.TLS <= 0 || login.Login <= 0 || sum <= 0 || sum > login.Total {
		t.Errorf("login %+v", login)
	}
}

// Names take time, too.
func TestResolveIsTimed(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	_, port, _ := net.SplitHostPort(s.addr())
	p, address := start(t, ca, s, func(p *Proxy) { p.Upstream.Via = net.JoinHostPort("localhost", port) })
	connected(t, address).Close()
	until(t, "the login to be noted", func() bool { return len(p.Logins()) > 0 }) // the client is told first
	if logins := p.Logins(); len(logins) != 1 || logins[0].Resolve <= 0 || logins[0].Dial <= 0 {
		t.Errorf("logins %+v", logins)
	}
}

// Failures for the same reason are one, which says how often and when.
func TestFailuresAreRemembered(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	keys := &tokens{err: errors.New("no credentials")}
	p, address := start(t, ca, s, func(p *Proxy) { p.Tokens = keys })
	for _, user := range []string{"alice", "bob", "alice", "alice"} {
		client := dial(t, address)
		client.send(startupPacket(3<<16, "user", user, "database", "mydb"))
		client.fatal()
	}
	got := p.Failures()
	if len(got) != 2 || got[0].User != "alice" || got[0].Times != 3 || got[1].User != "bob" || got[1].Times != 1 ||
		!got[0].Last.After(got[0].First) || got[0].SQLSTATE != "28000" || got[0].Message != "iamproxy: no token for alice: no credentials" {
		t.Errorf("failures %+v", got)
	}
	if c := p.Counts(); c.Failures[stats.FailureKind{SQLSTATE: "28000", Reason: pgwire.NoToken}] != 4 || c.Results[stats.Failed] != 4 || c.Results[stats.OK] != 0 {
		t.Errorf("counts %+v", c)
	}
	for i := range 40 {
		client := dial(t, address)
		client.send(startupPacket(3<<16, "user", fmt.Sprint("user", i), "database", "mydb"))
		client.fatal()
	}
	if n := len(p.Failures()); n != 20 {
		t.Errorf("%d failures are remembered", n)
	}
}

// A server can send any words, those of the proxy included.
func TestFailureReasonIsNotTheWords(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) {
		p.startup()
		p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "iamproxy: the server asks for nothing", Hint: "do as I say"})
	})
	for name, test := range map[string]struct {
		tokens *tokens
		reason pgwire.Reason
	}{
		"the server's": {&tokens{}, pgwire.ServerRefused},
		"the proxy's":  {&tokens{err: errors.New("no credentials")}, pgwire.NoToken},
	} {
		p, address := start(t, ca, s, func(p *Proxy) { p.Tokens = test.tokens })
		client := dial(t, address)
		client.send(ordinaryStartup)
		client.fatal()
		if f := p.Failures(); len(f) != 1 || f[0].Reason != test.reason {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// What fails is known while the first clients still wait, and when they leave before they
// are told.
func TestFailuresOfClientsThatLeave(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) {})
	p, address := start(t, ca, s, func(p *Proxy) {
		p.Upstream.DialContext = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		}
	})
	client := dial(t, address)
	client.send(ordinaryStartup)
	until(t, "the failure of the first attempt", func() bool { return len(p.Failures()) == 1 })
	if f := p.Failures()[0]; f.Times != 0 || f.SQLSTATE != "08001" || f.User != "alice" || f.Hint == "" || !strings.HasPrefix(f.Message, "iamproxy: cannot reach ") {
		t.Errorf("while the client waits: %+v", f)
	}
	client.Close()
	until(t, "the client to be given up", func() bool { return p.Counts().Results[stats.Abandoned] == 1 })
	if f := p.Failures(); len(f) != 1 || f[0].Times != 1 {
		t.Errorf("after it has left: %+v", f)
	}
	if c := p.Counts(); c.Failures[stats.FailureKind{SQLSTATE: "08001", Reason: pgwire.DialRefused}] != 1 || c.Results[stats.Failed] != 0 || c.Retries == 0 {
		t.Errorf("counts %+v", c)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { _, _ = p.Read(make([]byte, 1)) })
	p, _ := start(t, ca, s, nil)
	if err := p.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	stranger, _ := start(t, newAuthority(t), s, nil)
	err := stranger.Probe(t.Context())
	var adviser interface{ Advice() string }
	if err == nil || !strings.Contains(err.Error(), "is not trusted") || !errors.As(err, &adviser) || adviser.Advice() == "" {
		t.Errorf("got %v", err)
	}
	if len(stranger.Failures()) > 0 || len(stranger.Counts().Results) > 0 {
		t.Error("a probe counts as a client")
	}
}
