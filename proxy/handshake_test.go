package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

var (
	sslRequest = pgwire.Encode(&pgproto3.SSLRequest{})
	gssRequest = pgwire.Encode(&pgproto3.GSSEncRequest{})
)

func TestEncryptionIsDeclinedOnce(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn() })
	_, address := start(t, ca, s, nil)
	for _, order := range [][][]byte{{sslRequest, gssRequest}, {gssRequest, sslRequest}, {sslRequest}, {gssRequest}} {
		client := dial(t, address)
		for _, request := range order {
			client.send(request)
			client.expect([]byte{'N'})
		}
		client.send(ordinaryStartup)
		client.expect(pgwire.Encode(okay))
	}
	for _, twice := range [][]byte{sslRequest, gssRequest} {
		client := dial(t, address)
		client.send(twice)
		client.expect([]byte{'N'})
		client.send(twice)
		if e := client.fatal(); e.Code != pgwire.ProtocolViolation {
			t.Errorf("SQLSTATE %s", e.Code)
		}
	}
}

// Clients that want TLS have it, and so do others have no TLS, at one port.
func TestClientTLS(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	_, address := start(t, ca, s, withClientTLS(t, ca))
	for name, connect := range map[string]func() *peer{
		"none":             func() *peer { return dial(t, address) },
		"asked for":        func() *peer { return dialTLS(t, address, ca, false) },
		"asked, with ALPN": func() *peer { return dialTLS(t, address, ca, false, pgwire.ALPN) },
		"direct":           func() *peer { return dialTLS(t, address, ca, true, "other", pgwire.ALPN) },
		"GSSAPI declined": func() *peer {
			client := dial(t, address)
			client.send(gssRequest)
			client.expect([]byte{'N'})
			return client
		},
		"GSSAPI declined, then TLS": func() *peer {
			client := dial(t, address)
			client.send(gssRequest)
			client.expect([]byte{'N'})
			client.send(sslRequest)
			client.expect([]byte{'S'})
			client.Conn = tls.Client(client.raw, &tls.Config{ServerName: "localhost", RootCAs: ca.pool()})
			return client
		},
	} {
		client := connect().connected()
		client.send([]byte(name))
		client.expect([]byte(name))
		client.Close()
	}
}

// What stands in clear behind an SSLRequest is never taken for something said
// inside TLS.
func TestClientTLSRefusals(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	_, address := start(t, ca, s, withClientTLS(t, ca))
	for name, test := range map[string]struct {
		connect func() *peer
		want    string
	}{
		"startup packet behind the request": {func() *peer {
			client := dial(t, address)
			client.send(sslRequest, ordinaryStartup)
			client.expect([]byte{'S'})
			return client
		}, "unencrypted data"},
		"cancel request behind the request": {func() *peer {
			client := dial(t, address)
			client.send(sslRequest, &pgproto3.CancelRequest{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}})
			client.expect([]byte{'S'})
			return client
		}, "unencrypted data"},
		"direct without ALPN": {func() *peer { return dialTLS(t, address, ca, true) }, "ALPN"},
		"SSLRequest inside TLS": {func() *peer {
			client := dialTLS(t, address, ca, false)
			client.send(sslRequest)
			return client
		}, "inside TLS"},
		"GSSENCRequest inside direct TLS": {func() *peer {
			client := dialTLS(t, address, ca, true, pgwire.ALPN)
			client.send(gssRequest)
			return client
		}, "inside TLS"},
		"TLS inside TLS": {func() *peer {
			client := dialTLS(t, address, ca, true, pgwire.ALPN)
			client.send([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"))
			return client
		}, "started TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			e := test.connect().fatal()
			if e.Code != pgwire.ProtocolViolation || !strings.Contains(e.Message, test.want) {
				t.Errorf("got %+v, want %q", e, test.want)
			}
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.clear) > 0 {
		t.Error("the server was bothered")
	}
}

// Clients that cannot come to terms about TLS hear so from TLS. The log says why;
// those that just leave are probes.
func TestClientTLSFails(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(*peer) {})
	var logs *observer.ObservedLogs
	_, address := start(t, ca, s, func(p *Proxy) {
		withClientTLS(t, ca)(p)
		p.ConnectTimeout = 3 * time.Second
		logs = observed(p)
	})
	handshake := func(config *tls.Config) error {
		client := dial(t, address)
		client.send(sslRequest)
		client.expect([]byte{'S'})
		secure := tls.Client(client.raw, config)
		_, err := secure.Read(make([]byte, 1)) // shakes hands first, and then finds the end
		return err
	}
	for name, test := range map[string]struct {
		connect func() error
		want    string
	}{
		"untrusted": {func() error {
			return handshake(&tls.Config{ServerName: "localhost", RootCAs: newAuthority(t).pool()})
		}, "bad certificate"},
		"too old": {func() error {
			return handshake(&tls.Config{ServerName: "localhost", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
		}, "unsupported versions"},
		"other protocol": {func() error {
			return handshake(&tls.Config{ServerName: "localhost", RootCAs: ca.pool(), NextProtos: []string{"h2"}})
		}, "protocol"},
		"silent": {func() error {
			client := dial(t, address)
			client.send(sslRequest)
			_, err := io.ReadAll(client)
			return errors.Join(err, errors.New("closed"))
		}, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			before := logs.FilterMessage("TLS handshake failed").Len()
			if err := test.connect(); err == nil {
				t.Error("no error")
			}
			until(t, "the log", func() bool { return logs.FilterMessage("TLS handshake failed").Len() == before+1 })
			if said := logs.FilterMessage("TLS handshake failed").All()[before].ContextMap()["error"].(string); !strings.Contains(said, test.want) {
				t.Errorf("log says %q, want %q", said, test.want)
			}
		})
	}
	probe := dial(t, address)
	probe.send(sslRequest)
	probe.expect([]byte{'S'})
	probe.Close()
	until(t, "the probe", func() bool { return logs.FilterMessage("connection closed before startup packet").Len() == 1 })
	if loud := logs.Filter(func(e observer.LoggedEntry) bool { return e.Level > zap.InfoLevel }); loud.Len() > 0 {
		t.Errorf("warned: %v", loud.All())
	}
}

// directServer is one that takes TLS without a request for it, as PostgreSQL 17.
func directServer(t *testing.T, ca authority, protocols []string, script func(*peer)) string {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, serverName, time.Time{})},
		NextProtos:   protocols,
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			script(&peer{t: t, Conn: conn, raw: conn.(*tls.Conn).NetConn()})
			conn.Close()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	return listener.Addr().String()
}

func TestDirectTLS(t *testing.T) {
	t.Parallel()
	ca, asking := good(t, func(p *peer) { p.logIn() })
	for name, test := range map[string]struct {
		via  string
		want string // in the error; none if empty
	}{
		"taken":        {directServer(t, ca, []string{pgwire.ALPN}, func(p *peer) { p.logIn() }), ""},
		"without ALPN": {directServer(t, ca, nil, func(p *peer) { p.expectEnd() }), "ALPN"},
		"not taken":    {asking.addr(), "no direct TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			_, address := start(t, ca, asking, func(p *Proxy) { p.Upstream.Via, p.Upstream.DirectTLS = test.via, true })
			client := dial(t, address)
			client.send(ordinaryStartup)
			if test.want == "" {
				client.expect(pgwire.Encode(okay))
				return
			}
			if e := client.fatal(); e.Code != pgwire.CannotConnect || !strings.Contains(e.Message, test.want) || !strings.Contains(e.Hint, "sslnegotiation") {
				t.Errorf("got %+v", e)
			}
		})
	}
}

// Without a request for TLS the login's time is bounded all the same.
func TestDirectTLSWithASilentServer(t *testing.T) {
	t.Parallel()
	ca, other := good(t, func(*peer) {})
	via := directServer(t, ca, []string{pgwire.ALPN}, func(p *peer) { p.startup(); p.message() })
	_, address := start(t, ca, other, func(p *Proxy) {
		p.Upstream.Via, p.Upstream.DirectTLS, p.ConnectTimeout = via, true, 300*time.Millisecond
	})
	client := dial(t, address)
	client.send(ordinaryStartup)
	if e := client.fatal(); e.Code != pgwire.ConnectionFailure || !strings.Contains(e.Message, "no answer from") {
		t.Errorf("got %+v", e)
	}
}

// A server before 17 takes a handshake for a startup packet that is too long, and
// hangs up without a word.
func TestDirectTLSWithAnOldServer(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_, _ = io.ReadFull(conn, make([]byte, 4))
			conn.Close()
		}
	}()
	s := startServer(t, ca.issue(t, serverName, time.Time{}), nil, func(*peer) {})
	_, address := start(t, ca, s, func(p *Proxy) { p.Upstream.Via, p.Upstream.DirectTLS = listener.Addr().String(), true })
	client := dial(t, address)
	client.send(ordinaryStartup)
	if e := client.fatal(); e.Code != pgwire.CannotConnect || !strings.Contains(e.Message, "no direct TLS") {
		t.Errorf("got %+v", e)
	}
}

func TestProbesAreNoErrors(t *testing.T) {
	t.Parallel()
	var logs *observer.ObservedLogs
	ca, s := good(t, func(*peer) {})
	_, address := start(t, ca, s, func(p *Proxy) { logs = observed(p) })
	dial(t, address).Close()
	reset := dial(t, address)
	reset.raw.(*net.TCPConn).SetLinger(0)
	reset.Close()
	asked := dial(t, address)
	asked.send(pgwire.Encode(&pgproto3.SSLRequest{}))
	asked.expect([]byte{'N'})
	asked.Close()
	until(t, "three probes", func() bool { return logs.FilterMessage("connection closed before startup packet").Len() == 3 })
	if others := logs.Filter(func(e observer.LoggedEntry) bool { return e.Level > zap.DebugLevel }); others.Len() > 0 {
		t.Errorf("logged above debug: %v", others.All())
	}
}
