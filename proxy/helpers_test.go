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
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

var goodbye = pgwire.Encode(&pgproto3.Terminate{})

// TestMain runs the tests with plain I/O if IAMPROXY_PLAIN_IO is 1, like the program. Most
// tests only wait, so more of them run at once than there are processors.
func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "16")
	netconn.SetPlainIO(os.Getenv("IAMPROXY_PLAIN_IO") == "1")
	goleak.VerifyTestMain(m)
}

// limit is how long a test waits for what must happen. It only runs out in a
// test that fails.
const limit = 20 * time.Second

const serverName = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"

// tokens gives every user a token of its own, and a new one after a refusal.
type tokens struct {
	mu     sync.Mutex
	serial map[string]int
	same   bool // after a refusal too
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
func (k *tokens) UnexpectedAuthHint(user string) string { return "not asked hint for " + user }

// server is a PostgreSQL server that follows a script.
type server struct {
	t        testing.TB
	listener net.Listener
	tls      *tls.Config
	conns    sync.WaitGroup

	mu    sync.Mutex
	clear [][]byte // what came before TLS, by connection
}

// startServer serves each connection, once it is in TLS, with the script. raw,
// if not nil, has it before that, and says whether to go on.
func startServer(t testing.TB, certificate tls.Certificate, raw func(net.Conn) bool, script func(*peer)) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, listener: listener, tls: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	if raw == nil {
		raw = func(conn net.Conn) bool {
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
			s.conns.Go(func() { s.handle(conn, raw, script) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		s.conns.Wait()
	})
	return s
}

func (s *server) addr() string { return s.listener.Addr().String() }

func (s *server) handle(conn net.Conn, raw func(net.Conn) bool, script func(*peer)) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	request := make([]byte, 8)
	n, _ := io.ReadFull(conn, request)
	recorded := &recorder{Conn: conn}
	defer func() {
		s.mu.Lock()
		s.clear = append(s.clear, append(request[:n], recorded.first()...))
		s.mu.Unlock()
	}()
	if n < 8 || !raw(recorded) {
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
type recorder struct {
	net.Conn
	mu   sync.Mutex
	read []byte
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.read) < 8192 {
		r.read = append(r.read, b[:n]...)
	}
	return n, err
}

func (r *recorder) first() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.read)
}

// peer is one end of a connection, as a test plays it.
type peer struct {
	net.Conn
	t   testing.TB
	raw net.Conn
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

// startup reads a startup packet, whole.
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

// isCancel tells a cancel request from a startup packet.
func isCancel(packet []byte) bool {
	return len(packet) >= 12 && binary.BigEndian.Uint32(packet[4:]) == pgwire.CancelRequest
}

// message reads a message, whole; nil at the end.
func (p *peer) message() []byte {
	m, err := pgwire.ReadMessage(p)
	if err != nil {
		return nil
	}
	return m
}

func (p *peer) expect(want []byte) {
	p.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(p, got)
	if err != nil || !bytes.Equal(got, want) {
		p.t.Errorf("read %d bytes, %.200q, %v, want %d, %.200q", n, got[:n], err, len(want), want)
	}
}

func (p *peer) expectEnd() {
	p.t.Helper()
	if n, err := p.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		p.t.Errorf("read %d bytes, %v, want the end", n, err)
	}
}

// ask is a server's demand for the token, and returns what came.
func (p *peer) ask() string {
	p.send(&pgproto3.AuthenticationCleartextPassword{})
	var password pgproto3.PasswordMessage
	raw := p.message()
	if len(raw) < 5 || raw[0] != 'p' || password.Decode(raw[5:]) != nil {
		return ""
	}
	return password.Password
}

var (
	key   = &pgproto3.BackendKeyData{ProcessID: 4711, SecretKey: []byte{1, 2, 3, 4}}
	ready = &pgproto3.ReadyForQuery{TxStatus: 'I'}
	okay  = &pgproto3.AuthenticationOk{}
)

// logIn is a server's part of a login that succeeds.
func (p *peer) logIn() (startup []byte) {
	startup = p.startup()
	p.ask()
	p.send(okay, &pgproto3.ParameterStatus{Name: "server_version", Value: "17.2"}, key, ready)
	return startup
}

// echo sends back what comes until it ends.
func (p *peer) echo() {
	_, _ = io.Copy(p, p)
}

// start serves a Proxy that is set up for the server, and returns its address.
func start(t testing.TB, ca authority, s *server, change func(*Proxy)) (*Proxy, string) {
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

// good is a server with the right certificate.
func good(t testing.TB, script func(*peer)) (authority, *server) {
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
	conn.SetDeadline(time.Now().Add(limit))
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

// connected is a client whose session has begun.
func connected(t testing.TB, address string) *peer {
	t.Helper()
	return dial(t, address).connected()
}

func (p *peer) connected() *peer {
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

// dialTLS starts TLS, having asked for it or not.
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

// fatal reads the error that a connection is refused with, and its end.
func (p *peer) fatal() pgproto3.ErrorResponse {
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

// observed has the proxy log to where a test can read.
func observed(p *Proxy) *observer.ObservedLogs {
	core, logs := observer.New(zap.DebugLevel)
	p.Log = zap.New(core)
	return logs
}

// until waits for a condition.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", limit, what)
		}
	}
}
