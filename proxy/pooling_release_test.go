package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/pool"
)

// A connection whose session did not end in order is closed. The client's messages are
// forwarded as without a pool.
func TestPooledConnectionDiscarded(t *testing.T) {
	t.Parallel()
	failure := &pgproto3.ErrorResponse{Severity: "ERROR", Code: "55P03", Message: "no"}
	inTransaction := &pgproto3.ReadyForQuery{TxStatus: 'T'}
	for name, test := range map[string]struct {
		client   func(p *peer)
		respond  func(p *peer, request string) bool
		reason   string
		received string
	}{
		"client closes":                  {client: func(p *peer) { p.Close() }, reason: "did not terminate"},
		"client resets":                  {client: func(p *peer) { p.reset() }, reason: "did not terminate"},
		"client closes within Terminate": {client: func(p *peer) { p.send(terminate[:4]); p.Close() }, reason: "did not terminate"},
		"request in flight": {
			client:  func(p *peer) { p.send(&pgproto3.Query{String: "slow"}); p.send(terminate); p.expectEnd() },
			respond: func(_ *peer, request string) bool { return request == "slow" },
			reason:  "in flight", received: "slow, X",
		},
		"response half read": {
			client: func(p *peer) {
				p.send(&pgproto3.Query{String: "long"})
				p.expect([]byte{pgwire.DataRow})
				p.send(terminate)
				p.expectRest()
			},
			respond: func(p *peer, request string) bool {
				if request != "long" {
					return false
				}
				p.send(&pgproto3.DataRow{Values: [][]byte{make([]byte, 100_000)}}, &pgproto3.CommandComplete{})
				return true
			},
			reason: "in flight", received: "long, X",
		},
		"open transaction": {
			client: func(p *peer) {
				p.send(&pgproto3.Query{String: "begin"})
				p.expect(pgwire.Encode(inTransaction))
				p.send(terminate)
				p.expectEnd()
			},
			respond: func(p *peer, request string) bool {
				if request == "begin" {
					p.send(inTransaction)
				}
				return request == "begin"
			},
			reason: "a transaction was open", received: "begin, X",
		},
		"DISCARD ALL fails": {
			client: func(p *peer) { p.closeClean() },
			respond: func(p *peer, request string) bool {
				if request == "DISCARD ALL" {
					p.send(failure, ready)
				}
				return request == "DISCARD ALL"
			},
			reason: "cannot be reset", received: resetQueries,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &backend{respond: test.respond}
			p, address, logs := b.startPooled(t, nil)
			test.client(openSession(t, address))
			if reason := discardReason(t, logs, 1); !strings.Contains(reason, test.reason) {
				t.Errorf("not kept because %q, want %q", reason, test.reason)
			}
			if logs.FilterMessage("session ended").All()[0].ContextMap()["kept"] != nil {
				t.Error("logged as kept")
			}
			if got := p.pool.Stats(); got != (pool.Stats{}) {
				t.Errorf("counted %+v", got)
			}
			eventually(t, "the end of the connection", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.ended == 1 })
			if test.received != "" {
				b.expect(t, test.received)
			}
		})
	}
}

// expectRest reads to the end of the connection, at least one byte.
func (p *peer) expectRest() {
	p.t.Helper()
	if n, err := io.Copy(io.Discard, p); n == 0 || err != nil {
		p.t.Errorf("read %d bytes, %v", n, err)
	}
}

// A client can read a response that it had not read when it sent Terminate, even if it sends
// more.
func TestPooledTerminateBeforeResponseIsRead(t *testing.T) {
	t.Parallel()
	b := &backend{}
	p, address, _ := b.startPooled(t, nil)
	client := openSession(t, address)
	client.send(&pgproto3.Query{String: "q"})
	eventually(t, "the response", func() bool { return b.transcript() == "q" && p.Counts().Down > 0 })
	client.send(terminate)
	eventually(t, "the reset", func() bool { return b.transcript() == "q, "+resetQueries })
	client.send([]byte("more"))
	client.expect(slices.Concat(pgwire.Encode(&pgproto3.CommandComplete{CommandTag: []byte("q")}), pgwire.Encode(ready)))
	client.expectEnd()
	client.Close()
	waitIdle(t, p, 1)
}

// Messages that arrive byte by byte are tracked.
func TestPooledSplitMessages(t *testing.T) {
	t.Parallel()
	b := &backend{}
	p, address, _ := b.startPooled(t, nil)
	client := openSession(t, address)
	query := pgwire.Encode(&pgproto3.Query{String: "XXXXX"})
	for i := range query {
		client.send(query[i : i+1])
	}
	client.expect(slices.Concat(pgwire.Encode(&pgproto3.CommandComplete{CommandTag: []byte("XXXXX")}), pgwire.Encode(ready)))
	client.closeClean()
	waitIdle(t, p, 1)
	b.expect(t, "XXXXX, "+resetQueries)
}

// A connection that ended while it was idle is detected before it is reused. The client gets
// a new one.
func TestPooledConnectionClosedWhileIdle(t *testing.T) {
	t.Parallel()
	fatal := &pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P01", Message: "terminating connection due to administrator command"}
	for name, end := range map[string]func(p *peer){
		"closed":               func(p *peer) { p.Close() },
		"closed without TLS":   func(p *peer) { p.raw.Close() },
		"reset":                func(p *peer) { p.reset() },
		"FATAL":                func(p *peer) { p.send(fatal); p.Close() },
		"FATAL, not closed":    func(p *peer) { p.send(fatal) },
		"unrequested response": func(p *peer) { p.send(ready, &pgproto3.DataRow{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &backend{}
			p, address, logs := b.startPooled(t, nil)
			openSession(t, address).closeClean()
			waitIdle(t, p, 1)
			end(b.peers[0])
			b.waitUnread(t) // before that, the proxy cannot detect it
			client := openSession(t, address)
			client.query("alive")
			client.closeClean()
			if got := b.transcript(); got != resetQueries+"; alive" && !strings.HasPrefix(got, resetQueries+"; alive, ") {
				t.Errorf("the server received %q", got)
			}
			if logs.FilterMessage("pooled connection discarded").Len() != 1 {
				t.Error("not logged")
			}
			waitIdle(t, p, 1)
		})
	}
}

// A connection that was idle for longer than CheckDelay is checked. If the server does not
// respond, all idle connections to it are discarded.
func TestPooledConnectionUnresponsive(t *testing.T) {
	t.Parallel()
	var unresponsive sync.Map // connections
	b := &backend{respond: func(p *peer, request string) bool {
		_, yes := unresponsive.Load(p)
		return yes && request == "S"
	}}
	p, address, _ := b.startPooled(t, func(p *Proxy) { p.pool.CheckDelay = 1 })
	first, second := openSession(t, address), openSession(t, address)
	first.closeClean()
	second.closeClean()
	waitIdle(t, p, 2)
	openSession(t, address).closeClean()
	waitIdle(t, p, 2)
	if got := b.transcript(); strings.Count(got, "S, "+resetQueries) != 1 {
		t.Errorf("the server received %q, want one check", got)
	}
	for _, p := range b.peers {
		unresponsive.Store(p, true)
	}
	began := time.Now()
	openSession(t, address).closeClean()
	if took := time.Since(began); took < 200*time.Millisecond { // the least that a check waits
		t.Errorf("detected after %v", took)
	}
	waitIdle(t, p, 1)
	if got := b.transcript(); strings.Count(got, "S, ")+strings.Count(got, "S;") != 2 {
		t.Errorf("the server received %q, want one more check", got)
	}
	if got := len(b.peers); got != 3 {
		t.Errorf("%d connections", got)
	}
}

// A client that disconnects before its startup reply releases its pooled connection.
func TestPooledClientDisconnectsDuringReply(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, (&backend{}).serve)
	p, _ := startProxy(t, ca, s, func(p *Proxy) { p.MaxIdleConns = 1 })
	p.start()
	ours, theirs := net.Pipe()
	theirs.Close()
	session := &session{proxy: p, client: netconn.New(ours)}
	packet := pgwire.StartupPacket{Code: 3 << 16, Payload: ordinaryStartup[8:]}
	if _, err := session.login(packet); !errors.Is(err, errClientDisconnected) {
		t.Errorf("got %v", err)
	}
	if got := p.pool.Stats(); got != (pool.Stats{}) {
		t.Errorf("counted %+v", got)
	}
}

// batchedConn is a connection that sends all writes after hold in one, at Close.
type batchedConn struct {
	net.Conn
	hold atomic.Bool
	held []byte
}

func (c *batchedConn) Write(b []byte) (int, error) {
	if c.hold.Load() {
		c.held = append(c.held, b...)
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *batchedConn) Close() error {
	_ = c.SetWriteDeadline(time.Time{})
	_, _ = c.Conn.Write(c.held)
	return c.Conn.Close()
}

// A client with TLS sends Terminate and close_notify together. crypto/tls may return both from
// one Read.
func TestPooledTerminateWithCloseNotify(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ca := newAuthority(t)
			b := &backend{}
			p, address, _ := b.startPooled(t, withClientTLS(t, ca))
			client := dial(t, address)
			client.send(pgwire.Encode(&pgproto3.SSLRequest{}))
			client.expect([]byte{'S'})
			socket := &batchedConn{Conn: client.raw}
			client.Conn = tls.Client(socket, &tls.Config{ServerName: "localhost", RootCAs: ca.pool(), MaxVersion: version})
			client.openSession()
			client.query("in TLS")
			socket.hold.Store(true)
			client.send(terminate)
			client.Close()
			waitIdle(t, p, 1)
		})
	}
}
