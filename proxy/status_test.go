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
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// Sessions, Counts, Server and Logins show a session while it lasts and after its end.
func TestSessionStatus(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	var mu sync.Mutex
	var observed []stats.LoginTimings
	p, address := startProxy(t, ca, s, func(p *Proxy) {
		p.Observe = func(l stats.LoginTimings) { mu.Lock(); defer mu.Unlock(); observed = append(observed, l) }
	})
	client := dial(t, address)
	name := strings.Repeat("ä", 40) // 80 bytes
	client.send(startupPacket(3<<16, "user", "alice", "database", "mydb", "application_name", name))
	for client.message()[0] != pgwire.ReadyForQuery {
	}
	client.send([]byte("hello"))
	client.expect([]byte("hello"))
	eventually(t, "the bytes to be counted", func() bool { c := p.Counts(); return c.Up == 5 && c.Down == 5 })
	open := p.Sessions()
	if len(open) != 1 {
		t.Fatalf("sessions %+v", open)
	}
	got := open[0]
	if got.User != "alice" || got.Database != "mydb" || got.ApplicationName != name[:62] || got.Client != client.raw.LocalAddr().String() ||
		got.Server != s.addr() || got.Up != 5 || got.Down != 5 || time.Since(got.Began) > testTimeout {
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
	eventually(t, "the session to end", func() bool { return p.Counts().Sessions == 0 })
	if c := p.Counts(); c.Up != 5 || c.Down != 5 || c.Results[stats.OK] != 1 || len(p.Sessions()) != 0 {
		t.Errorf("counts %+v", c)
	}
	mu.Lock()
	defer mu.Unlock()
	logins := p.Logins()
	if len(observed) != 1 || len(logins) != 1 || observed[0] != logins[0] {
		t.Fatalf("observed %+v, recorded %+v", observed, logins)
	}
	login := logins[0]
	sum := login.Queue + login.Resolve + login.Dial + login.TLS + login.Login
	if login.Attempts != 1 || login.Dial <= 0 || login.TLS <= 0 || login.Login <= 0 || sum <= 0 || sum > login.Total {
		t.Errorf("login %+v", login)
	}
}

// The time to resolve a name is part of the timings.
func TestResolveTiming(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	_, port, _ := net.SplitHostPort(s.addr())
	p, address := startProxy(t, ca, s, func(p *Proxy) { p.Upstream.Via = net.JoinHostPort("localhost", port) })
	openSession(t, address).Close()
	eventually(t, "the login to be recorded", func() bool { return len(p.Logins()) > 0 }) // the client is served first
	if logins := p.Logins(); len(logins) != 1 || logins[0].Resolve <= 0 || logins[0].Dial <= 0 {
		t.Errorf("logins %+v", logins)
	}
}

// Failures of the same kind are one, with a count and times.
func TestFailures(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	keys := &tokens{err: errors.New("no credentials")}
	p, address := startProxy(t, ca, s, func(p *Proxy) { p.Tokens = keys })
	for _, user := range []string{"alice", "bob", "alice", "alice"} {
		client := dial(t, address)
		client.send(startupPacket(3<<16, "user", user, "database", "mydb"))
		client.expectError()
	}
	got := p.Failures()
	if len(got) != 2 || got[0].User != "alice" || got[0].Times != 3 || got[1].User != "bob" || got[1].Times != 1 ||
		!got[0].Last.After(got[0].First) || got[0].SQLSTATE != "28000" || got[0].Reason != pgwire.NoToken || !strings.HasPrefix(got[0].Message, "iamproxy: ") {
		t.Errorf("failures %+v", got)
	}
	if c := p.Counts(); c.Failures[stats.FailureKind{SQLSTATE: "28000", Reason: pgwire.NoToken}] != 4 || c.Results[stats.Failed] != 4 || c.Results[stats.OK] != 0 {
		t.Errorf("counts %+v", c)
	}
	for i := range 40 {
		client := dial(t, address)
		client.send(startupPacket(3<<16, "user", fmt.Sprint("user", i), "database", "mydb"))
		client.expectError()
	}
	if n := len(p.Failures()); n != 20 {
		t.Errorf("%d failures, want 20", n)
	}
}

// The reason does not depend on the text: a server can send any, that of the proxy included.
func TestFailureReason(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) {
		p.startup()
		p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "iamproxy: no token for alice", Hint: "a hint"})
	})
	for name, test := range map[string]struct {
		tokens *tokens
		reason pgwire.Reason
	}{
		"server": {&tokens{}, pgwire.ServerRefused},
		"proxy":  {&tokens{err: errors.New("no credentials")}, pgwire.NoToken},
	} {
		p, address := startProxy(t, ca, s, func(p *Proxy) { p.Tokens = test.tokens })
		client := dial(t, address)
		client.send(ordinaryStartup)
		client.expectError()
		if f := p.Failures(); len(f) != 1 || f[0].Reason != test.reason {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// A failure is shown while its client still waits, and counted when the client disconnects
// before it receives the error.
func TestFailuresOfDisconnectedClients(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) {})
	var logs *observer.ObservedLogs
	p, address := startProxy(t, ca, s, func(p *Proxy) {
		logs = observeLogs(p)
		p.Upstream.DialContext = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		}
	})
	client := dial(t, address)
	client.send(ordinaryStartup)
	eventually(t, "the failure of the first attempt", func() bool { return len(p.Failures()) == 1 })
	if f := p.Failures()[0]; f.Times != 0 || f.SQLSTATE != "57P03" || f.User != "alice" || f.Hint == "" || f.Reason != pgwire.DialRefused || !strings.HasPrefix(f.Message, "iamproxy: ") {
		t.Errorf("while the client waits: %+v", f)
	}
	client.Close()
	eventually(t, "the abandoned login", func() bool { return p.Counts().Results[stats.Abandoned] == 1 })
	if f := p.Failures(); len(f) != 1 || f[0].Times != 1 {
		t.Errorf("after the client has disconnected: %+v", f)
	}
	eventually(t, "the warning", func() bool { return logs.FilterLevelExact(zap.WarnLevel).Len() == 1 })
	if line := logs.FilterLevelExact(zap.WarnLevel).All()[0].ContextMap(); line["reason"] != string(pgwire.DialRefused) || !strings.Contains(fmt.Sprint(line["hint"]), "--connect-timeout") {
		t.Errorf("logged %v", line)
	}
	if c := p.Counts(); c.Failures[stats.FailureKind{SQLSTATE: "57P03", Reason: pgwire.DialRefused}] != 1 || c.Results[stats.Failed] != 0 || c.Retries == 0 {
		t.Errorf("counts %+v", c)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { _, _ = p.Read(make([]byte, 1)) })
	p, _ := startProxy(t, ca, s, nil)
	if err := p.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	untrusted, _ := startProxy(t, newAuthority(t), s, nil)
	err := untrusted.Probe(t.Context())
	var adviser interface{ Advice() string }
	if pgwire.ReasonOf(err) != pgwire.TLSUntrusted || !errors.As(err, &adviser) || adviser.Advice() == "" {
		t.Errorf("got %v", err)
	}
	if len(untrusted.Failures()) > 0 || len(untrusted.Counts().Results) > 0 {
		t.Error("a probe counts as a client")
	}
}
