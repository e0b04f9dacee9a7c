package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/upstream"
	"github.com/iamproxy/iamproxy/test/leaktest"
)

// terminate is the client's last message in an orderly session.
var terminate = pgwire.Encode(&pgproto3.Terminate{})

// TestMain lets more tests run at once than there are processors, as most only wait.
func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "16")
	leaktest.Main(m, netconn.SetPlainIO)
}

// testTimeout bounds each wait of a test. It expires only in a test that fails.
const testTimeout = 20 * time.Second

const serverName = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"

// tokens returns a different token for each user, and a new one after Invalidate.
type tokens struct {
	mu     sync.Mutex
	serial map[string]int
	same   bool // Invalidate does not change the token
	err    error
}

func (k *tokens) Token(_ context.Context, user string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return "", k.err
	}
	return fmt.Sprintf("token-%s-%d", user, k.serial[user]), nil
}

func (k *tokens) Invalidate(user, token string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.serial == nil {
		k.serial = map[string]int{}
	}
	if !k.same && token == fmt.Sprintf("token-%s-%d", user, k.serial[user]) {
		k.serial[user]++
	}
	return !k.same
}

func (k *tokens) RefusedHint(_ context.Context, user string) string {
	return "refused hint for " + user
}
func (k *tokens) UnexpectedAuthHint(user string) string { return "unexpected auth hint for " + user }

// server is a scripted PostgreSQL server.
type server struct {
	t        testing.TB
	listener net.Listener
	tls      *tls.Config
	conns    sync.WaitGroup

	mu          sync.Mutex
	unencrypted [][]byte // the beginning of each connection, as it was sent
}

// startServer starts a server that runs script on each connection after the TLS handshake.
// answer responds to the SSLRequest and reports whether the handshake follows. If nil, it
// sends 'S'.
func startServer(t testing.TB, certificate tls.Certificate, answer func(net.Conn) bool, script func(*peer)) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, listener: listener, tls: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	if answer == nil {
		answer = func(conn net.Conn) bool {
			_, err := conn.Write([]byte{'S'})
			return err == nil
		}
	}
	s.conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.conns.Go(func() { s.handle(conn, answer, script) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		s.conns.Wait()
	})
	return s
}

func (s *server) addr() string { return s.listener.Addr().String() }

func (s *server) handle(conn net.Conn, answer func(net.Conn) bool, script func(*peer)) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(testTimeout))
	request := make([]byte, 8)
	n, _ := io.ReadFull(conn, request)
	recorded := &readRecorder{Conn: conn}
	defer func() {
		s.mu.Lock()
		s.unencrypted = append(s.unencrypted, append(request[:n], recorded.first()...))
		s.mu.Unlock()
	}()
	if n < 8 || !answer(recorded) {
		_, _ = io.Copy(io.Discard, recorded)
		return
	}
	secure := tls.Server(recorded, s.tls)
	defer secure.Close()
	if secure.Handshake() == nil {
		script(&peer{t: s.t, Conn: secure, raw: conn})
	}
}

// recorder notes the beginning of what is read.
type readRecorder struct {
	net.Conn
	mu   sync.Mutex
	read []byte
}

func (r *readRecorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.read) < 8192 {
		r.read = append(r.read, b[:n]...)
	}
	return n, err
}

func (r *readRecorder) first() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.read)
}

// peer is the scripted end of a connection: a client or a server.
type peer struct {
	net.Conn
	t   testing.TB
	raw net.Conn // the connection below TLS
}

func (p *peer) send(messages ...any) {
	var b []byte
	for _, m := range messages {
		switch m := m.(type) {
		case []byte:
			b = append(b, m...)
		case interface {
			Encode([]byte) ([]byte, error)
		}:
			b = append(b, pgwire.Encode(m)...)
		default:
			p.t.Errorf("cannot send %T", m)
		}
	}
	if _, err := p.Write(b); err != nil {
		p.t.Logf("send: %v", err)
	}
}

// startup reads a startup packet. It returns nil if the connection ends first.
func (p *peer) startup() []byte {
	head := make([]byte, 4)
	if _, err := io.ReadFull(p, head); err != nil {
		return nil
	}
	packet := append(head, make([]byte, binary.BigEndian.Uint32(head)-4)...)
	if _, err := io.ReadFull(p, packet[4:]); err != nil {
		return nil
	}
	return packet
}

// isCancel reports whether the packet is a CancelRequest.
func isCancel(packet []byte) bool {
	return len(packet) >= 12 && binary.BigEndian.Uint32(packet[4:]) == pgwire.CancelRequest
}

// message reads a message. It returns nil if the connection ends first.
func (p *peer) message() []byte {
	m, err := pgwire.ReadMessage(p)
	if err != nil {
		return nil
	}
	return m
}

// expect reads exactly the bytes of want.
func (p *peer) expect(want []byte) {
	p.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(p, got)
	if err != nil || !bytes.Equal(got, want) {
		p.t.Errorf("read %d bytes, %.200q, %v, want %d, %.200q", n, got[:n], err, len(want), want)
	}
}

// expectEnd expects the end of the connection before any byte.
func (p *peer) expectEnd() {
	p.t.Helper()
	if n, err := p.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		p.t.Errorf("read %d bytes, %v, want the end", n, err)
	}
}

// requestToken requests a cleartext password, and returns the client's answer.
func (p *peer) requestToken() string {
	p.send(&pgproto3.AuthenticationCleartextPassword{})
	var password pgproto3.PasswordMessage
	raw := p.message()
	if len(raw) < 5 || raw[0] != 'p' || password.Decode(raw[5:]) != nil {
		return ""
	}
	return password.Password
}

var (
	key    = &pgproto3.BackendKeyData{ProcessID: 4711, SecretKey: []byte{1, 2, 3, 4}}
	ready  = &pgproto3.ReadyForQuery{TxStatus: 'I'}
	authOK = &pgproto3.AuthenticationOk{}
)

// acceptLogin serves a login that succeeds, and returns the startup packet.
func (p *peer) acceptLogin() (startup []byte) {
	startup = p.startup()
	p.requestToken()
	p.send(authOK, &pgproto3.ParameterStatus{Name: "server_version", Value: "17.2"}, key, ready)
	return startup
}

// echo sends all bytes back until the connection ends.
func (p *peer) echo() {
	_, _ = io.Copy(p, p)
}

// startProxy starts a Proxy for the server, and returns its address. change may be nil.
func startProxy(t testing.TB, ca authority, s *server, change func(*Proxy)) (*Proxy, string) {
	t.Helper()
	p := &Proxy{
		Upstream: &upstream.Dialer{
			Endpoint: serverName + ":5432",
			Via:      s.addr(),
			TLS:      &tls.Config{ServerName: serverName, RootCAs: ca.pool(), MinVersion: tls.VersionTLS12},
		},
		Tokens: &tokens{},
		Log:    zaptest.NewLogger(t, zaptest.Level(zap.DebugLevel)),
	}
	if change != nil {
		change(p)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve(listener) }()
	t.Cleanup(func() {
		stopNow(p)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return p, listener.Addr().String()
}

// stopNow shuts down without draining.
func stopNow(p *Proxy) {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	p.Shutdown(now)
}

// trustedServer starts a server with a valid certificate of a new authority.
func trustedServer(t testing.TB, script func(*peer)) (authority, *server) {
	t.Helper()
	ca := newAuthority(t)
	return ca, startServer(t, ca.issue(t, serverName, time.Time{}), nil, script)
}

func dial(t testing.TB, address string) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(testTimeout))
	t.Cleanup(func() { conn.Close() })
	return &peer{Conn: conn, t: t, raw: conn}
}

func startupPacket(version uint32, parameters ...string) []byte {
	m := pgwire.StartupMessage{Version: version}
	for pair := range slices.Chunk(parameters, 2) {
		m.Parameters = append(m.Parameters, pgwire.Parameter{Name: pair[0], Value: pair[1]})
	}
	return m.Encode()
}

var ordinaryStartup = startupPacket(3<<16, "user", "alice", "database", "mydb")

// openSession returns a client with an open session.
func openSession(t testing.TB, address string) *peer {
	t.Helper()
	return dial(t, address).openSession()
}

// openSession sends a startup packet and reads up to ReadyForQuery.
func (p *peer) openSession() *peer {
	p.t.Helper()
	p.send(ordinaryStartup)
	for {
		switch m := p.message(); {
		case m == nil:
			p.t.Fatal("connection rejected")
		case m[0] == pgwire.ErrorResponse:
			p.t.Fatalf("no session: %q", m)
		case m[0] == pgwire.ReadyForQuery:
			return p
		}
	}
}

// dialTLS connects with TLS: direct, or after an SSLRequest.
func dialTLS(t testing.TB, address string, ca authority, direct bool, protocols ...string) *peer {
	t.Helper()
	client := dial(t, address)
	if !direct {
		client.send(pgwire.Encode(&pgproto3.SSLRequest{}))
		client.expect([]byte{'S'})
	}
	secure := tls.Client(client.raw, &tls.Config{ServerName: "localhost", RootCAs: ca.pool(), NextProtos: protocols})
	if err := secure.Handshake(); err != nil {
		t.Fatal(err)
	}
	client.Conn = secure
	return client
}

// expectError reads the error that ends the connection.
func (p *peer) expectError() pgproto3.ErrorResponse {
	p.t.Helper()
	var e pgproto3.ErrorResponse
	raw := p.message()
	if len(raw) < 5 || raw[0] != pgwire.ErrorResponse {
		p.t.Fatalf("got %q, want an error", raw)
	}
	if err := e.Decode(raw[5:]); err != nil {
		p.t.Fatal(err)
	}
	p.expectEnd()
	return e
}

// expectReason checks the reason of the last failure, which messages do not carry.
func (p *Proxy) expectReason(t *testing.T, want pgwire.Reason) {
	t.Helper()
	if f := p.Failures(); len(f) == 0 || f[0].Reason != want {
		t.Errorf("failures %+v, want reason %s first", f, want)
	}
}

// observeLogs replaces the log of the proxy by one that the test can read.
func observeLogs(p *Proxy) *observer.ObservedLogs {
	core, logs := observer.New(zap.DebugLevel)
	p.Log = zap.New(core)
	return logs
}

// eventually waits until the condition is true.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", testTimeout, what)
		}
	}
}
