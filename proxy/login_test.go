package proxy

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// The newest protocol there is, and options nobody knows, go up as they came;
// the server's answer comes down as it is, and what either side sends ahead is
// not lost.
func TestLoginIsTransparent(t *testing.T) {
	t.Parallel()
	packet := startupPacket(3<<16|9999, "user", "alice", "options", `-c a=b\ c`, "database", "mydb",
		"_pq_.test_protocol_negotiation", "", "application_name", "ünï", "replication", "database")
	downstream := slices.Concat(
		[]byte("v\x00\x00\x00\x0f\x00\x03\x00\x02\x00\x00\x00\x01x\x00\x00"), // NegotiateProtocolVersion, and something unknown in it
		pgwire.Encode(&pgproto3.NoticeResponse{Severity: "WARNING", Message: "before"}),
		pgwire.Encode(okay),
		pgwire.Encode(&pgproto3.ParameterStatus{Name: "search_path", Value: strings.Repeat("a, ", 30000)}),
		[]byte("~\x00\x00\x00\x08what"), // a message of a later protocol
		pgwire.Encode(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: bytes.Repeat([]byte{9}, 256)}),
		pgwire.Encode(&pgproto3.NoticeResponse{Severity: "NOTICE", Message: "after"}),
		pgwire.Encode(ready),
		pgwire.Encode(&pgproto3.NotificationResponse{PID: 1, Channel: "c", Payload: "in the same segment"}))
	query := pgwire.Encode(&pgproto3.Query{String: "select 1"})

	seen := make(chan []byte, 3)
	ca, s := good(t, func(p *peer) {
		seen <- p.startup()
		ask := pgwire.Encode(&pgproto3.AuthenticationCleartextPassword{})
		early := bytes.Index(downstream, pgwire.Encode(okay))
		p.send(slices.Concat(downstream[:early], ask))
		seen <- p.message()
		p.send(downstream[early:])
		seen <- p.message()
	})
	_, address := start(t, ca, s, nil)
	client := dial(t, address)
	client.send(slices.Concat(packet, query)) // in one segment
	client.expect(downstream)
	client.expectEnd()

	if got := <-seen; !bytes.Equal(got, packet) {
		t.Errorf("startup packet went up as %q", got)
	}
	if got := <-seen; !bytes.Equal(got, pgwire.Encode(&pgproto3.PasswordMessage{Password: "token-alice-0"})) {
		t.Errorf("the server got %q for a password", got)
	}
	if got := <-seen; !bytes.Equal(got, query) {
		t.Errorf("the query behind the startup packet went up as %q", got)
	}
}

func TestOverriddenUserAndDatabase(t *testing.T) {
	t.Parallel()
	seen := make(chan []byte, 1)
	ca, s := good(t, func(p *peer) { seen <- p.logIn() })
	_, address := start(t, ca, s, func(p *Proxy) { p.User, p.Database = "bob", "other" })
	client := dial(t, address)
	client.send(startupPacket(3<<16, "user", "alice", "application_name", "x"))
	if got, want := <-seen, startupPacket(3<<16, "user", "bob", "application_name", "x", "database", "other"); !bytes.Equal(got, want) {
		t.Errorf("went up as %q, want %q", got, want)
	}
}

func TestBadClients(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	_, address := start(t, ca, s, func(p *Proxy) { p.ConnectTimeout = 300 * time.Millisecond })
	bystander := connected(t, address)
	for _, test := range []struct {
		name, sent string
		leave      bool // half-close behind it
		code, text string
	}{
		{"length 0", "\x00\x00\x00\x00", false, "08P01", "invalid length"},
		{"length 7", "\x00\x00\x00\x07\x00\x03\x00", false, "08P01", "invalid length"},
		{"length 10001", "\x00\x00\x27\x11\x00\x03\x00\x00", false, "08P01", "invalid length"},
		{"length negative", "\xff\xff\xff\xff\x00\x03\x00\x00", false, "08P01", "invalid length"},
		{"HTTP", "GET / HTTP/1.1\r\n\r\n", false, "08P01", "HTTP"},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", false, "08P01", "TLS"},
		{"noise", strings.Repeat("\xde\xad\xbe\xef", 20000), false, "08P01", "invalid length"},
		{"cut short", "\x00\x00\x00\x20\x00\x03\x00\x00user", true, "08P01", "incomplete"},
		{"cut in the length", "\x00\x00", true, "08P01", "incomplete"},
		{"stops in the middle", "\x00\x00\x00\x20\x00\x03\x00\x00user", false, "08006", "within 300ms"},
		{"no terminator", "\x00\x00\x00\x0e\x00\x03\x00\x00user\x00a", false, "08P01", "terminator"},
		{"no last terminator", "\x00\x00\x00\x0f\x00\x03\x00\x00user\x00a\x00", false, "08P01", "terminator"},
		{"something behind", "\x00\x00\x00\x11\x00\x03\x00\x00user\x00a\x00\x00x", false, "08P01", "terminator"},
		{"no user", "\x00\x00\x00\x09\x00\x03\x00\x00\x00", false, "28000", "no PostgreSQL user name"},
		{"protocol 2", "\x00\x00\x00\x09\x00\x02\x00\x00\x00", false, "0A000", "protocol 2.0"},
		{"protocol 4", "\x00\x00\x00\x09\x00\x04\x00\x01\x00", false, "0A000", "protocol 4.1"},
		{"unknown request", "\x00\x00\x00\x08\x04\xd2\x16\x2a", false, "0A000", "protocol 1234.5674"},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := dial(t, address)
			client.send([]byte(test.sent))
			if test.leave {
				halfClose(client.raw)
			}
			e := client.fatal()
			if e.Severity != "FATAL" || e.SeverityUnlocalized != "FATAL" || e.Code != test.code ||
				!strings.HasPrefix(e.Message, "iamproxy: ") || !strings.Contains(e.Message, test.text) {
				t.Errorf("got %+v, want %s with %q", e, test.code, test.text)
			}
		})
	}
	t.Run("silent", func(t *testing.T) {
		if e := dial(t, address).fatal(); e.Code != "08006" {
			t.Errorf("got %+v", e)
		}
	})
	t.Run("leaves at once", func(t *testing.T) { dial(t, address).Close() })

	bystander.send([]byte("still here"))
	bystander.expect([]byte("still here"))
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.clear); n != 0 {
		t.Errorf("%d connections to the server for clients that asked for nothing", n)
	}
}

// Servers that do not prove who they are, or ask for something else than a
// token inside TLS, get neither a token nor the startup packet.
func TestBadServers(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	right := ca.issue(t, serverName, time.Time{})
	plain := func(text string) func(net.Conn) bool {
		return func(conn net.Conn) bool {
			_, _ = conn.Write([]byte(text))
			return false
		}
	}
	for _, test := range []struct {
		name                    string
		raw                     func(net.Conn) bool
		script                  func(*peer)
		code, text, hint        string
		untrusted, renamed, old bool
	}{
		{name: "declines TLS", raw: plain("N"), code: "08001", text: "does not offer TLS", hint: "token is never sent"},
		{name: "error instead of TLS", raw: plain(string(pgwire.Encode(&pgproto3.ErrorResponse{Message: "forged"}))), code: "08001", text: "with an error"},
		{name: "password asked before TLS", raw: plain("R\x00\x00\x00\x08\x00\x00\x00\x03"), code: "08001", text: `with 'R'`},
		{name: "clear text behind S", raw: plain("SR\x00\x00\x00\x08\x00\x00\x00\x03"), code: "08001", text: "no TLS"},
		{name: "not PostgreSQL", raw: plain("HTTP/1.1 400 Bad Request\r\n\r\n"), code: "08001", text: `with 'H'`},
		{name: "closes", raw: func(conn net.Conn) bool {
			halfClose(conn.(*recorder).Conn)
			return false
		}, code: "08006", text: "closed the connection"},
		{name: "untrusted", untrusted: true, code: "08001", text: "not trusted", hint: "--ca-file"},
		{name: "other name", renamed: true, code: "08001", text: "no certificate for " + serverName, hint: "via="},
		{name: "expired", old: true, code: "08001", text: "not valid now", hint: "clock"},
		{name: "MD5", script: func(p *peer) { p.startup(); p.send(&pgproto3.AuthenticationMD5Password{}); p.message() },
			code: "28000", text: "asks alice for an MD5 password", hint: "not asked hint for alice"},
		{name: "SCRAM", script: func(p *peer) {
			p.startup()
			p.send(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}})
			p.message()
		}, code: "28000", text: "SCRAM", hint: "not asked hint"},
		{name: "Kerberos", script: func(p *peer) { p.startup(); p.send(&pgproto3.AuthenticationGSS{}); p.message() }, code: "28000", text: "Kerberos"},
		{name: "password twice", script: func(p *peer) { p.startup(); p.ask(); p.ask() }, code: "08P01", text: "twice"},
		{name: "short request", script: func(p *peer) { p.startup(); p.send([]byte("R\x00\x00\x00\x04")) }, code: "08P01", text: "cannot be read"},
		{name: "impossible length", script: func(p *peer) { p.startup(); p.send([]byte("R\x00\x00\x00\x03")) }, code: "08P01", text: "length 3 during login"},
		{name: "negative length", script: func(p *peer) { p.startup(); p.send([]byte("R\xff\xff\xff\xff")) }, code: "08P01", text: "length -1 during login"},
		{name: "huge length", script: func(p *peer) { p.startup(); p.send([]byte("E\x7f\xff\xff\xff")) }, code: "08P01", text: "length 2147483647 during login"},
		{name: "huge length after login", script: func(p *peer) { p.startup(); p.ask(); p.send(okay, []byte("K\x7f\xff\xff\xff")) }, code: "08P01", text: "length 2147483647 during login"},
		{name: "endless notices", script: func(p *peer) {
			p.startup()
			for range 2000 {
				p.send(&pgproto3.NoticeResponse{Message: strings.Repeat("x", 1000)})
			}
		}, code: "08P01", text: "too much"},
		{name: "ends before the token", script: func(p *peer) { p.startup() }, code: "08006", text: "closed the connection during login"},
		{name: "ends after the token", script: func(p *peer) { p.startup(); p.ask() }, code: "08006", text: "closed the connection during login"},
		{name: "ends in a message", script: func(p *peer) { p.startup(); p.send([]byte("R\x00\x00")) }, code: "08006", text: "closed the connection during login"},
		{name: "says nothing", script: func(p *peer) { p.startup(); p.message() }, code: "08006", text: "no answer from"},
		{name: "no handshake", raw: plain("S"), code: "08006", text: "no answer from"},
		{name: "no answer", raw: plain(""), code: "08006", text: "no answer from"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			certificate := right
			switch {
			case test.untrusted:
				certificate = other.issue(t, serverName, time.Time{})
			case test.renamed:
				certificate = ca.issue(t, "other.example", time.Time{})
			case test.old:
				certificate = ca.issue(t, serverName, time.Now().Add(-time.Hour))
			}
			s := startServer(t, certificate, test.raw, test.script)
			_, address := start(t, ca, s, func(p *Proxy) { p.ConnectTimeout = 500 * time.Millisecond })
			client := dial(t, address)
			client.send(ordinaryStartup)
			// What was sent before the login failed is the server's own.
			raw := client.message()
			for raw != nil && raw[0] != pgwire.ErrorResponse {
				raw = client.message()
			}
			var e pgproto3.ErrorResponse
			if raw == nil || e.Decode(raw[5:]) != nil {
				t.Fatal("no error")
			}
			client.expectEnd()
			if e.Severity != "FATAL" || e.Code != test.code || !strings.HasPrefix(e.Message, "iamproxy: ") ||
				!strings.Contains(e.Message, test.text) || !strings.Contains(e.Hint, test.hint) {
				t.Errorf("got %s %q (hint %q), want %s with %q (%q)", e.Code, e.Message, e.Hint, test.code, test.text, test.hint)
			}
			if test.text == "with an error" && strings.Contains(e.Message+e.Hint, "forged") {
				t.Error("a text that nobody vouches for is shown")
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, clear := range s.clear {
				if !bytes.HasPrefix(clear, pgwire.Encode(&pgproto3.SSLRequest{})) ||
					bytes.Contains(clear, []byte("alice")) || bytes.Contains(clear, []byte("token")) {
					t.Errorf("went out unencrypted: %q", clear)
				}
			}
		})
	}
}

// A client that leaves during its login is nobody's failure.
func TestClientLeavesDuringLogin(t *testing.T) {
	t.Parallel()
	left := make(chan struct{})
	ca, s := good(t, func(p *peer) {
		p.startup()
		p.ask()
		<-left
		p.send(okay, &pgproto3.ParameterStatus{Name: "x", Value: strings.Repeat("x", 100_000)}, ready)
		p.echo()
	})
	var logs *observer.ObservedLogs
	_, address := start(t, ca, s, func(p *Proxy) { logs = observed(p) })
	client := dial(t, address)
	client.send(ordinaryStartup)
	client.raw.(*net.TCPConn).SetLinger(0)
	client.Close()
	close(left)
	until(t, "the log", func() bool { return logs.FilterMessage("client disconnected during login").Len() == 1 })
	if warnings := logs.Filter(func(e observer.LoggedEntry) bool { return e.Level > zap.InfoLevel }); warnings.Len() > 0 {
		t.Errorf("warned: %v", warnings.All())
	}
}

func TestShutdownDuringLogin(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	ca, s := good(t, func(p *peer) { p.startup(); close(asked); p.message() })
	p, address := start(t, ca, s, nil)
	client := dial(t, address)
	client.send(ordinaryStartup)
	<-asked
	stopNow(p)
	if e := client.fatal(); e.Code != "57P03" {
		t.Errorf("got %+v", e)
	}
}

func TestStartupTooLongWithOverride(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn() })
	_, address := start(t, ca, s, func(p *Proxy) { p.Database = strings.Repeat("d", 100) })
	client := dial(t, address)
	client.send(startupPacket(3<<16, "user", "alice", "options", strings.Repeat("x", 9900)))
	if e := client.fatal(); e.Code != "08P01" || !strings.Contains(e.Message, "too long") {
		t.Errorf("got %+v", e)
	}
}

// Half a message is not passed on: the client can still be told.
func TestServerEndsInTheMiddleOfAMessage(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.startup(); p.ask(); p.send(okay, []byte("S\x00\x00\x00\xffserver_ver")) })
	_, address := start(t, ca, s, func(p *Proxy) { p.ConnectTimeout = time.Second })
	client := dial(t, address)
	client.send(ordinaryStartup)
	if e := client.fatal(); e.Code != "08006" || !strings.Contains(e.Message, "closed the connection during login") {
		t.Errorf("got %+v", e)
	}
}

// RDS Proxy gives no key to cancel with; none is made up.
func TestNoBackendKey(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.startup(); p.ask(); p.send(okay, ready); p.echo() })
	_, address := start(t, ca, s, nil)
	client := dial(t, address)
	client.send(ordinaryStartup)
	client.expect(slices.Concat(pgwire.Encode(okay), pgwire.Encode(ready)))
	client.send([]byte("hello"))
	client.expect([]byte("hello"))
}

// A server that wants no password at all is as good as one that took the token.
func TestNoPasswordAsked(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.startup(); p.send(okay, ready); _, _ = io.Copy(io.Discard, p) })
	_, address := start(t, ca, s, nil)
	client := dial(t, address)
	client.send(ordinaryStartup)
	client.expect(slices.Concat(pgwire.Encode(okay), pgwire.Encode(ready)))
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
