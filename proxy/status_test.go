package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
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

func TestAllowed(t *testing.T) {
	p := &Proxy{AllowFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}}
	for address, want := range map[string]bool{
		"10.1.2.3": true, "11.0.0.1": false, "::ffff:10.1.2.3": true, "fe80::1": true, "127.0.0.1": false, "::1": false,
	} {
		if got := p.allowsAddress(&net.TCPAddr{IP: net.ParseIP(address), Zone: "eth0"}); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if !p.allowsAddress(&net.UnixAddr{Name: "/run/x"}) || !(&Proxy{}).allowsAddress(&net.TCPAddr{IP: net.ParseIP("192.0.2.1")}) {
		t.Error("those are allowed who are not asked about")
	}
}

// Proxies share a Limit; clients who are turned away or leave take no room.
func TestLimit(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	limit := &ConnLimit{Max: 2, Hint: "raise it"}
	share := func(p *Proxy) { p.Limit = limit }
	first, at := start(t, ca, s, share)
	_, elsewhere := start(t, ca, s, share)
	a, b := connected(t, at), connected(t, elsewhere)
	for range 3 {
		c := dial(t, at)
		c.send(ordinaryStartup)
		if e := c.fatal(); e.Code != "53300" || e.Hint == "" {
			t.Errorf("a third client is told %+v", e)
		}
	}
	if c := first.Counts(); c.Results[stats.Rejected] != 3 || c.Failures[stats.FailureKind{SQLSTATE: "53300", Reason: pgwire.TooManySessions}] != 3 || c.Sessions != 1 {
		t.Errorf("counts %+v", c)
	}
	a.Close()
	b.Close()
	until(t, "room", func() bool { return len(limit.taken) == 0 })
	connected(t, at)
}

func TestNoDescriptorLeft(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) {})
	_, address := start(t, ca, s, func(p *Proxy) {
		p.ConnectTimeout = 500 * time.Millisecond
		p.Upstream.DialContext = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}
		}
	})
	client := dial(t, address)
	client.send(ordinaryStartup)
	if e := client.fatal(); e.Code != "08001" || !strings.Contains(e.Message, "no file descriptor is left") || !strings.Contains(e.Hint, "--max-sessions") {
		t.Errorf("the client is told %+v", e)
	}
}

// A proxy with a successor lets those in who have connected, and then accepts nobody.
func TestShutdownLeavesClients(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	p, address := start(t, ca, s, func(p *Proxy) { p.HandOff = true })
	early := dial(t, address)
	until(t, "the client to be accepted", func() bool { return p.lastID.Load() == 1 })
	cut := make(chan int)
	go func() { cut <- p.Shutdown(context.Background()) }()
	until(t, "nobody to be accepted", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	early.connected()
	early.send([]byte("here"))
	early.expect([]byte("here"))
	early.Close()
	if n := <-cut; n != 0 {
		t.Errorf("%d sessions cut", n)
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

func TestShorten(t *testing.T) {
	for text, want := range map[string]string{"": "", "abc": "abc", "abcd": "abc", "aäö": "aä", "ääää": "ä", "\x80\x80\x80\x80": ""} {
		if got := truncate(text, 3); got != want {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// A client that leaves in the middle of its login has none, and makes room.
func TestClientLeavesWhileTheServerIsSilent(t *testing.T) {
	t.Parallel()
	asked, closed := make(chan struct{}), make(chan struct{})
	ca, s := good(t, func(p *peer) {
		p.startup()
		close(asked)
		_, _ = io.Copy(io.Discard, p) // it says nothing
		close(closed)
	})
	room := &ConnLimit{Max: 1}
	room.acquire() // as it is looked at below
	room.release()
	p, address := start(t, ca, s, func(p *Proxy) { p.Limit = room })
	client := dial(t, address)
	client.send(ordinaryStartup)
	<-asked
	client.Close()
	select {
	case <-closed:
	case <-time.After(limit):
		t.Fatal("the server's connection stays")
	}
	until(t, "room", func() bool { return len(room.taken) == 0 })
	if c := p.Counts(); c.Results[stats.Abandoned] != 1 || c.Results[stats.OK] != 0 || len(p.Logins()) != 0 {
		t.Errorf("counts %+v", c)
	}
}

// Who has read that the session is over finds room for the next.
func TestRoomForTheNext(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); _, _ = io.Copy(io.Discard, p) })
	_, address := start(t, ca, s, func(p *Proxy) { p.Limit = &ConnLimit{Max: 1} })
	for range 50 {
		client := connected(t, address)
		_ = client.raw.(*net.TCPConn).CloseWrite()
		client.expectEnd()
	}
}

// Strangers are told, or closed if there are many, and keep nobody out who may connect.
func TestStrangers(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	p, address := start(t, ca, s, func(p *Proxy) { p.AllowFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")} })
	told := dial(t, address)
	told.send(pgwire.Encode(&pgproto3.SSLRequest{}))
	told.expect([]byte{'N'})
	told.send(ordinaryStartup)
	if e := told.fatal(); e.Code != "28000" || !strings.HasSuffix(e.Message, "clients from 127.0.0.1 may not connect") || e.Hint == "" {
		t.Errorf("a stranger is told %+v", e)
	}
	cancels := dial(t, address)
	cancels.send(pgwire.Encode(&pgproto3.CancelRequest{ProcessID: key.ProcessID, SecretKey: key.SecretKey}))
	cancels.expectEnd()
	until(t, "the request to be counted", func() bool { return p.cancels.Stats().Rejected == 1 })
	if f := p.Failures(); len(f) != 1 || f[0].Times != 1 || p.Counts().Results[stats.Rejected] != 1 {
		t.Errorf("failures %+v", f)
	}
	for range 2 * maxRejecting {
		dial(t, address)
	}
	until(t, "some to be closed at once", func() bool { return p.Counts().Results[stats.Rejected] > 1 })
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(limit))
	(&peer{Conn: conn, t: t, raw: conn}).connected().Close()
	if f := p.Failures(); len(f) != 1 {
		t.Errorf("strangers are %d failures on the list", len(f))
	}
}
