package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
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

var (
	sslRequest = pgwire.Encode(&pgproto3.SSLRequest{})
	gssRequest = pgwire.Encode(&pgproto3.GSSEncRequest{})
)

func TestEncryptionDeclined(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin() })
	p, address := startProxy(t, ca, s, nil)
	for _, order := range [][][]byte{{sslRequest, gssRequest}, {gssRequest, sslRequest}, {sslRequest}, {gssRequest}} {
		client := dial(t, address)
		for _, request := range order {
			client.send(request)
			client.expect([]byte{'N'})
		}
		client.send(ordinaryStartup)
		client.expect(pgwire.Encode(authOK))
	}
	if f := p.Failures(); len(f) > 0 {
		t.Errorf("failures %+v, although the clients continued without encryption", f)
	}
	for _, twice := range [][]byte{sslRequest, gssRequest} {
		client := dial(t, address)
		client.send(twice)
		client.expect([]byte{'N'})
		client.send(twice)
		if e := client.expectError(); e.Code != pgwire.ProtocolViolation {
			t.Errorf("SQLSTATE %s", e.Code)
		}
		p.expectReason(t, pgwire.ClientTLSRepeated)
	}
}

// Clients with TLS and without it share one port.
func TestClientTLS(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	_, address := startProxy(t, ca, s, withClientTLS(t, ca))
	for name, connect := range map[string]func() *peer{
		"none":             func() *peer { return dial(t, address) },
		"SSLRequest":       func() *peer { return dialTLS(t, address, ca, false) },
		"SSLRequest, ALPN": func() *peer { return dialTLS(t, address, ca, false, pgwire.ALPN) },
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
		client := connect().openSession()
		client.send([]byte(name))
		client.expect([]byte(name))
		client.Close()
	}
}

// Unencrypted data after an SSLRequest is never taken for data inside TLS, and TLS needs ALPN
// without an SSLRequest.
func TestClientTLSRejected(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	p, address := startProxy(t, ca, s, withClientTLS(t, ca))
	for name, test := range map[string]struct {
		connect func() *peer
		reason  pgwire.Reason
	}{
		"startup packet after the SSLRequest": {func() *peer {
			client := dial(t, address)
			client.send(sslRequest, ordinaryStartup)
			client.expect([]byte{'S'})
			return client
		}, pgwire.ClientDataBeforeTLS},
		"CancelRequest after the SSLRequest": {func() *peer {
			client := dial(t, address)
			client.send(sslRequest, &pgproto3.CancelRequest{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}})
			client.expect([]byte{'S'})
			return client
		}, pgwire.ClientDataBeforeTLS},
		"direct without ALPN": {func() *peer { return dialTLS(t, address, ca, true) }, pgwire.ClientALPNMissing},
		"SSLRequest inside TLS": {func() *peer {
			client := dialTLS(t, address, ca, false)
			client.send(sslRequest)
			return client
		}, pgwire.ClientTLSNested},
		"GSSENCRequest inside direct TLS": {func() *peer {
			client := dialTLS(t, address, ca, true, pgwire.ALPN)
			client.send(gssRequest)
			return client
		}, pgwire.ClientTLSNested},
		"TLS inside TLS": {func() *peer {
			client := dialTLS(t, address, ca, true, pgwire.ALPN)
			client.send([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"))
			return client
		}, pgwire.ClientTLSDisabled},
	} {
		t.Run(name, func(t *testing.T) {
			if e := test.connect().expectError(); e.Code != pgwire.ProtocolViolation {
				t.Errorf("got %+v", e)
			}
			p.expectReason(t, test.reason)
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unencrypted) > 0 {
		t.Error("a connection to the server was made")
	}
}

// A failed TLS handshake is reported to the client by TLS, and logged with its cause. A
// client that disconnects is a health check.
func TestClientTLSHandshakeFails(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(*peer) {})
	var logs *observer.ObservedLogs
	p, address := startProxy(t, ca, s, func(p *Proxy) {
		withClientTLS(t, ca)(p)
		p.ConnectTimeout = 3 * time.Second
		logs = observeLogs(p)
	})
	handshake := func(config *tls.Config) error {
		client := dial(t, address)
		client.send(sslRequest)
		client.expect([]byte{'S'})
		secure := tls.Client(client.raw, config)
		_, err := secure.Read(make([]byte, 1)) // handshakes first
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
		"no handshake": {func() error {
			client := dial(t, address)
			client.send(sslRequest)
			_, err := io.ReadAll(client)
			return errors.Join(err, errors.New("closed"))
		}, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			before := logs.FilterMessage("connection rejected").Len()
			if err := test.connect(); err == nil {
				t.Error("no error")
			}
			eventually(t, "the log line", func() bool { return logs.FilterMessage("connection rejected").Len() == before+1 })
			p.expectReason(t, pgwire.ClientTLSFailed)
			if cause := logs.FilterMessage("connection rejected").All()[before].ContextMap()["error"].(string); !strings.HasPrefix(cause, "TLS handshake with the client failed: ") || !strings.Contains(cause, test.want) {
				t.Errorf("logged %q, want %q", cause, test.want)
			}
		})
	}
	check := dial(t, address)
	check.send(sslRequest)
	check.expect([]byte{'S'})
	check.Close()
	eventually(t, "the health check", func() bool { return logs.FilterMessage("connection closed before startup packet").Len() == 1 })
	if warnings := logs.FilterLevelExact(zap.WarnLevel); warnings.Len() != 1 {
		t.Errorf("warned: %v", warnings.All())
	}
}

// directServer starts a server that accepts direct TLS, as PostgreSQL 17 does.
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
	ca, negotiating := trustedServer(t, func(p *peer) { p.acceptLogin() })
	for name, test := range map[string]struct {
		via      string
		accepted bool
	}{
		"accepted":     {directServer(t, ca, []string{pgwire.ALPN}, func(p *peer) { p.acceptLogin() }), true},
		"without ALPN": {directServer(t, ca, nil, func(p *peer) { p.expectEnd() }), false},
		"not accepted": {negotiating.addr(), false},
	} {
		t.Run(name, func(t *testing.T) {
			p, address := startProxy(t, ca, negotiating, func(p *Proxy) { p.Upstream.Via, p.Upstream.DirectTLS = test.via, true })
			client := dial(t, address)
			client.send(ordinaryStartup)
			if test.accepted {
				client.expect(pgwire.Encode(authOK))
				return
			}
			if e := client.expectError(); e.Code != pgwire.CannotConnect || !strings.Contains(e.Hint, "sslnegotiation") {
				t.Errorf("got %+v", e)
			}
			p.expectReason(t, pgwire.TLSDirectNotOffered)
		})
	}
}

// ConnectTimeout bounds a login with direct TLS, too.
func TestDirectTLSServerTimeout(t *testing.T) {
	t.Parallel()
	ca, other := trustedServer(t, func(*peer) {})
	via := directServer(t, ca, []string{pgwire.ALPN}, func(p *peer) { p.startup(); p.message() })
	p, address := startProxy(t, ca, other, func(p *Proxy) {
		p.Upstream.Via, p.Upstream.DirectTLS, p.ConnectTimeout = via, true, 2*time.Second
	})
	client := dial(t, address)
	client.send(ordinaryStartup)
	if e := client.expectError(); e.Code != pgwire.CannotConnectNow {
		t.Errorf("got %+v", e)
	}
	p.expectReason(t, pgwire.NoAnswer)
}

// A server before PostgreSQL 17 reads the handshake as a startup packet that is too long,
// and closes the connection.
func TestDirectTLSBeforePostgreSQL17(t *testing.T) {
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
	p, address := startProxy(t, ca, s, func(p *Proxy) { p.Upstream.Via, p.Upstream.DirectTLS = listener.Addr().String(), true })
	client := dial(t, address)
	client.send(ordinaryStartup)
	if e := client.expectError(); e.Code != pgwire.CannotConnect {
		t.Errorf("got %+v", e)
	}
	p.expectReason(t, pgwire.TLSDirectNotOffered)
}

// A server that has accepted direct TLS supports it. When it hangs up, as in a restart, that may pass.
func TestDirectTLSServerRestarts(t *testing.T) {
	t.Parallel()
	ca, other := trustedServer(t, func(*peer) {})
	via := directServer(t, ca, []string{pgwire.ALPN}, func(p *peer) { p.acceptLogin(); p.echo() })
	hangingUp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hangingUp.Close() })
	go func() {
		for {
			conn, err := hangingUp.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	var down atomic.Bool
	p, address := startProxy(t, ca, other, func(p *Proxy) {
		p.Upstream.Via, p.Upstream.DirectTLS, p.ConnectTimeout = via, true, 2*time.Second
		p.Upstream.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			if down.Load() {
				return new(net.Dialer).DialContext(ctx, network, hangingUp.Addr().String())
			}
			return new(net.Dialer).DialContext(ctx, network, via)
		}
	})
	openSession(t, address)
	down.Store(true)
	client := dial(t, address)
	client.send(ordinaryStartup)
	if e := client.expectError(); e.Code != pgwire.CannotConnectNow || strings.Contains(e.Hint, "sslnegotiation") {
		t.Errorf("got %+v", e)
	}
	if reason := p.Failures()[0].Reason; reason != pgwire.ConnectionClosed && reason != pgwire.ConnectionBroken { // a reset may come first
		t.Errorf("reason %s", reason)
	}
}

// A client that disconnects before its startup packet is logged at debug level only.
func TestHealthChecksLoggedAtDebugLevel(t *testing.T) {
	t.Parallel()
	var logs *observer.ObservedLogs
	ca, s := trustedServer(t, func(*peer) {})
	p, address := startProxy(t, ca, s, func(p *Proxy) { logs = observeLogs(p) })
	_, encrypted := startProxy(t, ca, s, func(other *Proxy) { withClientTLS(t, ca)(other); other.Log = p.Log })
	dial(t, address).Close()
	reset := dial(t, address)
	reset.raw.(*net.TCPConn).SetLinger(0)
	reset.Close()
	declined := dial(t, address)
	declined.send(pgwire.Encode(&pgproto3.SSLRequest{}))
	declined.expect([]byte{'N'})
	for _, terminated := range []*peer{
		declined,
		dial(t, address),
		dialTLS(t, encrypted, ca, false),
		dialTLS(t, encrypted, ca, true, pgwire.ALPN),
	} {
		terminated.send(pgwire.Encode(&pgproto3.Terminate{}))
		terminated.expectEnd()
	}
	eventually(t, "log lines", func() bool { return logs.FilterMessage("connection closed before startup packet").Len() == 6 })
	if others := logs.Filter(func(e observer.LoggedEntry) bool { return e.Level > zap.DebugLevel }); others.Len() > 0 {
		t.Errorf("logged above debug: %v", others.All())
	}
}

// remoteClient is a client of another host. It ends after its input.
type remoteClient struct {
	*conntest.Script
	ip string
}

func (c remoteClient) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(c.ip), Port: 5} }

// A client of another host is never advised to do without TLS.
func TestTLSOffHint(t *testing.T) {
	t.Parallel()
	for ip, local := range map[string]bool{"127.0.0.1": true, "::1": true, "::ffff:127.0.0.1": true, "10.0.0.1": false, "fd00::1": false} {
		for reason, input := range map[pgwire.Reason]string{
			pgwire.ClientTLSDeclined: "\x00\x00\x00\x08\x04\xd2\x16\x2f",
			pgwire.ClientTLSDisabled: "\x16\x03\x01\x02\x00\x01\x00\x01",
		} {
			s := &session{proxy: &Proxy{ctx: t.Context()}, client: netconn.New(remoteClient{conntest.NewScript([]byte(input)), ip})}
			_, err := s.receiveStartup(time.Minute, nil)
			var off *pgwire.Error
			if !errors.As(err, &off) || off.Reason != reason || strings.Contains(off.Hint, "disable") != local || !strings.Contains(off.Hint, "--listen-tls") {
				t.Errorf("%s: %#v, want %s", ip, err, reason)
			}
		}
	}
}

// A client that disconnects when its request for encryption is declined has failed. Only the first
// one of a kind in a while is a warning, since health checks may do the same every few seconds.
func TestClientRequiresEncryption(t *testing.T) {
	t.Parallel()
	var logs *observer.ObservedLogs
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin() })
	p, address := startProxy(t, ca, s, func(p *Proxy) { logs = observeLogs(p) })
	decline := func(requests ...any) *peer {
		client := dial(t, address)
		for _, request := range requests {
			client.send(request)
			client.expect([]byte{'N'})
		}
		return client
	}
	decline(gssRequest, sslRequest).Close()
	decline(sslRequest).Close()
	eventually(t, "two failures", func() bool { return p.Counts().Results[stats.Failed] == 2 })
	p.expectReason(t, pgwire.ClientTLSDeclined)
	decline(sslRequest, gssRequest).Close()
	eventually(t, "the third failure", func() bool { return p.Counts().Results[stats.Failed] == 3 })
	p.expectReason(t, pgwire.ClientGSSDeclined)
	eventually(t, "three lines", func() bool { return logs.FilterMessage("connection rejected").Len() == 3 })
	decline(sslRequest).Close() // as pgx with sslmode=prefer
	client := dial(t, address)
	client.send(ordinaryStartup)
	client.expect(pgwire.Encode(authOK))
	eventually(t, "the client that connects again", func() bool {
		return logs.FilterMessage("client continues without encryption on another connection").Len() == 1
	})
	if n := p.Counts().Results[stats.Failed]; n != 3 {
		t.Errorf("%d failures", n)
	}
	warnings := logs.FilterLevelExact(zap.WarnLevel)
	if warnings.Len() != 2 || !strings.Contains(fmt.Sprint(warnings.All()[0].ContextMap()["hint"]), "--listen-tls self-signed") {
		t.Errorf("warnings %v", warnings.All())
	}
}
