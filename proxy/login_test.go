package proxy

import (
	"bytes"
	"cmp"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
	"github.com/iamproxy/iamproxy/test/conntest"
)

// Unknown protocol versions and options are forwarded unchanged, as is the server's reply.
// Data that either side sends early is not lost.
func TestLoginIsTransparent(t *testing.T) {
	t.Parallel()
	packet := startupPacket(3<<16|9999, "user", "alice", "options", `-c a=b\ c`, "database", "mydb",
		"_pq_.test_protocol_negotiation", "", "application_name", "ünï", "replication", "database")
	downstream := slices.Concat(
		[]byte("v\x00\x00\x00\x0f\x00\x03\x00\x02\x00\x00\x00\x01x\x00\x00"), // NegotiateProtocolVersion with an unknown option
		pgwire.Encode(&pgproto3.NoticeResponse{Severity: "WARNING", Message: "before"}),
		pgwire.Encode(authOK),
		pgwire.Encode(&pgproto3.ParameterStatus{Name: "search_path", Value: strings.Repeat("a, ", 30000)}),
		[]byte("~\x00\x00\x00\x08what"), // a message of a later protocol version
		pgwire.Encode(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: bytes.Repeat([]byte{9}, 256)}),
		pgwire.Encode(&pgproto3.NoticeResponse{Severity: "NOTICE", Message: "after"}),
		pgwire.Encode(ready),
		pgwire.Encode(&pgproto3.NotificationResponse{PID: 1, Channel: "c", Payload: "in the same segment"}))
	query := pgwire.Encode(&pgproto3.Query{String: "select 1"})

	received := make(chan []byte, 3)
	ca, s := trustedServer(t, func(p *peer) {
		received <- p.startup()
		request := pgwire.Encode(&pgproto3.AuthenticationCleartextPassword{})
		early := bytes.Index(downstream, pgwire.Encode(authOK))
		p.send(slices.Concat(downstream[:early], request))
		received <- p.message()
		p.send(downstream[early:])
		received <- p.message()
	})
	_, address := startProxy(t, ca, s, nil)
	client := dial(t, address)
	client.send(slices.Concat(packet, query)) // in one segment
	client.expect(downstream)
	client.expectEnd()

	if got := <-received; !bytes.Equal(got, packet) {
		t.Errorf("the server received the startup packet %q", got)
	}
	if got := <-received; !bytes.Equal(got, pgwire.Encode(&pgproto3.PasswordMessage{Password: "token-alice-0"})) {
		t.Errorf("the server received the password %q", got)
	}
	if got := <-received; !bytes.Equal(got, query) {
		t.Errorf("the query behind the the server received the startup packet %q", got)
	}
}

func TestOverriddenUserAndDatabase(t *testing.T) {
	t.Parallel()
	received := make(chan []byte, 1)
	ca, s := trustedServer(t, func(p *peer) { received <- p.acceptLogin() })
	_, address := startProxy(t, ca, s, func(p *Proxy) { p.User, p.Database = "bob", "other" })
	client := dial(t, address)
	client.send(startupPacket(3<<16, "user", "alice", "application_name", "x"))
	if got, want := <-received, startupPacket(3<<16, "user", "bob", "application_name", "x", "database", "other"); !bytes.Equal(got, want) {
		t.Errorf("the server received %q, want %q", got, want)
	}
}

func TestInvalidClients(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	p, address := startProxy(t, ca, s, nil)
	session := openSession(t, address)
	for _, test := range []struct {
		name, sent string
		halfClose  bool
		code       string
		reason     pgwire.Reason
	}{
		{"length 0", "\x00\x00\x00\x00", false, "08P01", pgwire.StartupLengthInvalid},
		{"length 7", "\x00\x00\x00\x07\x00\x03\x00", false, "08P01", pgwire.StartupLengthInvalid},
		{"length 10001", "\x00\x00\x27\x11\x00\x03\x00\x00", false, "08P01", pgwire.StartupLengthInvalid},
		{"length negative", "\xff\xff\xff\xff\x00\x03\x00\x00", false, "08P01", pgwire.StartupLengthInvalid},
		{"HTTP", "GET / HTTP/1.1\r\n\r\n", false, "08P01", pgwire.HTTPRequest},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", false, "08P01", pgwire.ClientTLSDisabled},
		{"noise", strings.Repeat("\xde\xad\xbe\xef", 20000), false, "08P01", pgwire.StartupLengthInvalid},
		{"ends within the packet", "\x00\x00\x00\x20\x00\x03\x00\x00user", true, "08P01", pgwire.StartupIncomplete},
		{"ends within the length", "\x00\x00", true, "08P01", pgwire.StartupIncomplete},
		{"no terminator", "\x00\x00\x00\x0e\x00\x03\x00\x00user\x00a", false, "08P01", pgwire.StartupLayoutInvalid},
		{"no last terminator", "\x00\x00\x00\x0f\x00\x03\x00\x00user\x00a\x00", false, "08P01", pgwire.StartupLayoutInvalid},
		{"bytes after the terminator", "\x00\x00\x00\x11\x00\x03\x00\x00user\x00a\x00\x00x", false, "08P01", pgwire.StartupLayoutInvalid},
		{"no user", "\x00\x00\x00\x09\x00\x03\x00\x00\x00", false, "28000", pgwire.UserMissing},
		{"protocol 2", "\x00\x00\x00\x09\x00\x02\x00\x00\x00", false, "0A000", pgwire.ProtocolUnsupported},
		{"protocol 4", "\x00\x00\x00\x09\x00\x04\x00\x01\x00", false, "0A000", pgwire.ProtocolUnsupported},
		{"unknown request", "\x00\x00\x00\x08\x04\xd2\x16\x2a", false, "0A000", pgwire.ProtocolUnsupported},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := dial(t, address)
			client.send([]byte(test.sent))
			if test.halfClose {
				halfClose(client.raw)
			}
			e := client.expectError()
			if e.Severity != "FATAL" || e.SeverityUnlocalized != "FATAL" || e.Code != test.code || !strings.HasPrefix(e.Message, "iamproxy: ") {
				t.Errorf("got %+v, want %s", e, test.code)
			}
			p.expectReason(t, test.reason)
		})
	}
	dial(t, address).Close()

	session.send([]byte("unharmed"))
	session.expect([]byte("unharmed"))
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.unencrypted); n != 0 {
		t.Errorf("%d connections to the server for invalid clients", n)
	}
}

// ConnectTimeout bounds the wait for a startup packet.
func TestStartupTimeout(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(*peer) {})
	p, address := startProxy(t, ca, s, func(p *Proxy) { p.ConnectTimeout = 2 * time.Second })
	silent, partial := dial(t, address), dial(t, address)
	partial.send([]byte("\x00\x00\x00\x20\x00\x03\x00\x00user"))
	if e := partial.expectError(); e.Code != pgwire.ConnectionFailure {
		t.Errorf("part of a packet: %+v", e)
	}
	p.expectReason(t, pgwire.StartupTimeout)
	if e := silent.expectError(); e.Code != pgwire.ConnectionFailure {
		t.Errorf("no packet: %+v", e)
	}
}

// A server that is not verified, or that requests anything but a token inside TLS, receives
// neither a token nor the startup packet.
func TestInvalidServers(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	valid := ca.issue(t, serverName, time.Time{})
	plain := func(text string) func(net.Conn) bool {
		return func(conn net.Conn) bool {
			_, _ = conn.Write([]byte(text))
			return false
		}
	}
	forged := pgwire.Encode(&pgproto3.ErrorResponse{Message: "forged"})
	tooLong := func(p *peer) {
		p.startup()
		for range 2000 {
			p.send(&pgproto3.NoticeResponse{Message: strings.Repeat("x", 1000)})
		}
	}
	sends := func(message any) func(*peer) { return func(p *peer) { p.startup(); p.send(message) } }
	for _, test := range []struct {
		name                          string
		answer                        func(net.Conn) bool // to the SSLRequest
		script                        func(*peer)
		code                          string
		reason                        pgwire.Reason
		hint                          string
		untrusted, otherName, expired bool
		timeout                       time.Duration
	}{
		{name: "declines TLS", answer: plain("N"), code: "08001", reason: pgwire.TLSNotOffered},
		{name: "error instead of TLS", answer: plain(string(forged)), code: "08001", reason: pgwire.TLSRequestRejected},
		{name: "password requested before TLS", answer: plain("R\x00\x00\x00\x08\x00\x00\x00\x03"), code: "08001", reason: pgwire.TLSRequestUnknown},
		{name: "unencrypted data after S", answer: plain("SR\x00\x00\x00\x08\x00\x00\x00\x03"), code: "08001", reason: pgwire.TLSFailed},
		{name: "not PostgreSQL", answer: plain("HTTP/1.1 400 Bad Request\r\n\r\n"), code: "08001", reason: pgwire.TLSRequestUnknown},
		{name: "closes", answer: func(conn net.Conn) bool {
			halfClose(conn.(*readRecorder).Conn)
			return false
		}, code: "57P03", reason: pgwire.ConnectionClosed},
		{name: "untrusted", untrusted: true, code: "08001", reason: pgwire.TLSUntrusted, hint: "--ca-file"},
		{name: "other name", otherName: true, code: "08001", reason: pgwire.TLSWrongName, hint: "ENDPOINT is the name"},
		{name: "expired", expired: true, code: "08001", reason: pgwire.TLSExpired},
		{name: "MD5", script: sends(&pgproto3.AuthenticationMD5Password{}), code: "28000", reason: pgwire.PasswordRequested, hint: "unexpected auth hint for alice"},
		{name: "SCRAM", script: sends(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}), code: "28000", reason: pgwire.PasswordRequested, hint: "unexpected auth hint for alice"},
		{name: "Kerberos", script: sends(&pgproto3.AuthenticationGSS{}), code: "28000", reason: pgwire.PasswordRequested},
		{name: "password twice", script: func(p *peer) { p.startup(); p.requestToken(); p.requestToken() }, code: "08P01", reason: pgwire.PasswordRepeated},
		{name: "short request", script: sends([]byte("R\x00\x00\x00\x04")), code: "08P01", reason: pgwire.AuthRequestInvalid},
		{name: "impossible length", script: sends([]byte("R\x00\x00\x00\x03")), code: "08P01", reason: pgwire.MessageInvalid},
		{name: "negative length", script: sends([]byte("R\xff\xff\xff\xff")), code: "08P01", reason: pgwire.MessageInvalid},
		{name: "huge length", script: sends([]byte("E\x7f\xff\xff\xff")), code: "08P01", reason: pgwire.MessageInvalid},
		{name: "huge length after login", script: func(p *peer) { p.startup(); p.requestToken(); p.send(authOK, []byte("K\x7f\xff\xff\xff")) }, code: "08P01", reason: pgwire.MessageInvalid},
		{name: "endless notices", script: tooLong, code: "08P01", reason: pgwire.MessagesTooLong},
		{name: "ends before the token", script: func(p *peer) { p.startup() }, code: "57P03", reason: pgwire.ConnectionClosed},
		{name: "ends after the token", script: func(p *peer) { p.startup(); p.requestToken() }, code: "57P03", reason: pgwire.ConnectionClosed},
		{name: "ends within a message", script: sends([]byte("R\x00\x00")), code: "57P03", reason: pgwire.ConnectionClosed},
		{name: "no answer to the startup packet", script: func(p *peer) { p.startup(); p.message() }, code: "57P03", reason: pgwire.NoAnswer, timeout: 2 * time.Second},
		{name: "no handshake", answer: plain("S"), code: "57P03", reason: pgwire.NoAnswer, timeout: 2 * time.Second},
		{name: "no answer", answer: plain(""), code: "57P03", reason: pgwire.NoAnswer, timeout: 2 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			certificate := valid
			switch {
			case test.untrusted:
				certificate = other.issue(t, serverName, time.Time{})
			case test.otherName:
				certificate = ca.issue(t, "other.example", time.Time{})
			case test.expired:
				certificate = ca.issue(t, serverName, time.Now().Add(-time.Hour))
			}
			s := startServer(t, certificate, test.answer, test.script)
			p, address := startProxy(t, ca, s, func(p *Proxy) { p.ConnectTimeout = cmp.Or(test.timeout, 6*time.Second) })
			client := dial(t, address)
			client.send(ordinaryStartup)
			// The server's messages before the error are forwarded.
			raw := client.message()
			for raw != nil && raw[0] != pgwire.ErrorResponse {
				raw = client.message()
			}
			var e pgproto3.ErrorResponse
			if raw == nil || e.Decode(raw[5:]) != nil {
				t.Fatal("no error")
			}
			client.expectEnd()
			if e.Severity != "FATAL" || e.Code != test.code || !strings.HasPrefix(e.Message, "iamproxy: ") || !strings.Contains(e.Hint, test.hint) {
				t.Errorf("got %s %q (hint %q), want %s (%q)", e.Code, e.Message, e.Hint, test.code, test.hint)
			}
			p.expectReason(t, test.reason)
			if strings.Contains(e.Message+e.Hint, "forged") {
				t.Error("the text of an unverified server is shown")
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, sent := range s.unencrypted {
				if !bytes.HasPrefix(sent, pgwire.Encode(&pgproto3.SSLRequest{})) ||
					bytes.Contains(sent, []byte("alice")) || bytes.Contains(sent, []byte("token")) {
					t.Errorf("sent unencrypted: %q", sent)
				}
			}
		})
	}
}

// A client that disconnects during its login causes no warning.
func TestClientDisconnectsDuringLogin(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	ca, s := trustedServer(t, func(p *peer) {
		p.startup()
		p.requestToken()
		<-closed
		p.send(authOK, &pgproto3.ParameterStatus{Name: "x", Value: strings.Repeat("x", 100_000)}, ready)
		p.echo()
	})
	var logs *observer.ObservedLogs
	_, address := startProxy(t, ca, s, func(p *Proxy) { logs = observeLogs(p) })
	client := dial(t, address)
	client.send(ordinaryStartup)
	client.raw.(*net.TCPConn).SetLinger(0)
	client.Close()
	close(closed)
	eventually(t, "the log line", func() bool { return logs.FilterMessage("client disconnected during login").Len() == 1 })
	if warnings := logs.Filter(func(e observer.LoggedEntry) bool { return e.Level > zap.InfoLevel }); warnings.Len() > 0 {
		t.Errorf("warned: %v", warnings.All())
	}
}

func TestShutdownDuringLogin(t *testing.T) {
	t.Parallel()
	started := make(chan struct{})
	ca, s := trustedServer(t, func(p *peer) { p.startup(); close(started); p.message() })
	p, address := startProxy(t, ca, s, nil)
	client := dial(t, address)
	client.send(ordinaryStartup)
	<-started
	stopNow(p)
	if e := client.expectError(); e.Code != pgwire.CannotConnectNow {
		t.Errorf("got %+v", e)
	}
}

func TestStartupTooLongWithOverride(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin() })
	p, address := startProxy(t, ca, s, func(p *Proxy) { p.Database = strings.Repeat("d", 100) })
	client := dial(t, address)
	client.send(startupPacket(3<<16, "user", "alice", "options", strings.Repeat("x", 9900)))
	if e := client.expectError(); e.Code != pgwire.ProtocolViolation {
		t.Errorf("got %+v", e)
	}
	p.expectReason(t, pgwire.StartupTooLong)
}

// Part of a message is not forwarded, so that the client can read the error after it.
func TestServerClosesWithinMessage(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.startup(); p.requestToken(); p.send(authOK, []byte("S\x00\x00\x00\xffserver_ver")) })
	p, address := startProxy(t, ca, s, func(p *Proxy) { p.ConnectTimeout = 3 * time.Second })
	client := dial(t, address)
	client.send(ordinaryStartup)
	if e := client.expectError(); e.Code != pgwire.CannotConnectNow {
		t.Errorf("got %+v", e)
	}
	p.expectReason(t, pgwire.ConnectionClosed)
}

// RDS Proxy sends no cancel key. The client gets none.
func TestNoBackendKey(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.startup(); p.requestToken(); p.send(authOK, ready); p.echo() })
	_, address := startProxy(t, ca, s, nil)
	client := dial(t, address)
	client.send(ordinaryStartup)
	client.expect(slices.Concat(pgwire.Encode(authOK), pgwire.Encode(ready)))
	client.send([]byte("hello"))
	client.expect([]byte("hello"))
}

// A server may accept the login without requesting a password.
func TestNoPasswordRequested(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.startup(); p.send(authOK, ready); _, _ = io.Copy(io.Discard, p) })
	_, address := startProxy(t, ca, s, nil)
	client := dial(t, address)
	client.send(ordinaryStartup)
	client.expect(slices.Concat(pgwire.Encode(authOK), pgwire.Encode(ready)))
}

// A login ends when its client disconnects, and its place is free.
func TestClientDisconnectsWhileServerIsSilent(t *testing.T) {
	t.Parallel()
	started, closed := make(chan struct{}), make(chan struct{})
	ca, s := trustedServer(t, func(p *peer) {
		p.startup()
		close(started)
		_, _ = io.Copy(io.Discard, p)
		close(closed)
	})
	limit := &ConnLimit{Max: 1}
	limit.acquire() // sets taken
	limit.release()
	p, address := startProxy(t, ca, s, func(p *Proxy) { p.Limit = limit })
	client := dial(t, address)
	client.send(ordinaryStartup)
	<-started
	client.Close()
	select {
	case <-closed:
	case <-time.After(testTimeout):
		t.Fatal("the connection to the server stays open")
	}
	eventually(t, "a free place", func() bool { return len(limit.taken) == 0 })
	if c := p.Counts(); c.Results[stats.Abandoned] != 1 || c.Results[stats.OK] != 0 || len(p.Logins()) != 0 {
		t.Errorf("counts %+v", c)
	}
}

// A login that succeeds at the last moment is no failure because the deadline passes before the
// client has been sent the reply.
func TestStartupReplyAfterDeadline(t *testing.T) {
	t.Parallel()
	theirs, ours := conntest.TCPPair(t)
	deadline := time.Now().Add(-time.Millisecond)
	s := &session{client: netconn.New(ours)}
	s.client.SetDeadline(deadline)
	if err := s.sendStartupReply([]byte("reply"), deadline); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(theirs, got); err != nil || string(got) != "reply" {
		t.Errorf("received %q, %v", got, err)
	}
}
