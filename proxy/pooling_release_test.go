package proxy

import (
	"bytes"
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

// What is not fit for another client is closed, and what its own has said goes up as
// without a pool.
func TestConnectionsThatAreNotKept(t *testing.T) {
	t.Parallel()
	failing := &pgproto3.ErrorResponse{Severity: "ERROR", Code: "55P03", Message: "no"}
	inTransaction := &pgproto3.ReadyForQuery{TxStatus: 'T'}
	parse := pgwire.Encode(&pgproto3.Parse{Query: "select 1"})
	for name, test := range map[string]struct {
		client func(p *peer)
		answer func(p *peer, said string) bool
		reason string
		heard  string
	}{
		"client closes":                  {client: func(p *peer) { p.Close() }, reason: "did not terminate"},
		"client resets":                  {client: func(p *peer) { p.reset() }, reason: "did not terminate"},
		"client closes within Terminate": {client: func(p *peer) { p.send(goodbye[:4]); p.Close() }, reason: "did not terminate"},
		"request in flight": {client: func(p *peer) { p.send(pgwire.Encode(&pgproto3.Query{String: "slow"})); p.send(goodbye); p.expectEnd() },
			answer: func(_ *peer, said string) bool { return said == "slow" }, reason: "in flight", heard: "slow, X"},
		"request in the same segment": {client: func(p *peer) { p.send(slices.Concat(pgwire.Encode(&pgproto3.Query{String: "q"}), goodbye)) },
			reason: "in flight", heard: "q, X"},
		"answer half read": {client: func(p *peer) {
			p.send(&pgproto3.Query{String: "much"})
			p.expect([]byte{pgwire.DataRow})
			p.send(goodbye)
			p.expectRest()
		},
			answer: func(p *peer, said string) bool {
				if said != "much" {
					return false
				}
				p.send(&pgproto3.DataRow{Values: [][]byte{make([]byte, 100_000)}}, &pgproto3.CommandComplete{})
				return true
			}, reason: "in flight", heard: "much, X"},
		"in a transaction": {client: func(p *peer) {
			p.send(&pgproto3.Query{String: "begin"})
			p.expect(pgwire.Encode(inTransaction))
			p.send(goodbye)
			p.expectEnd()
		},
			answer: func(p *peer, said string) bool {
				if said == "begin" {
					p.send(inTransaction)
				}
				return said == "begin"
			}, reason: "a transaction was open", heard: "begin, X"},
		"unsynced":     {client: func(p *peer) { p.send(parse); p.send(goodbye); p.expectEnd() }, reason: "requests", heard: "P, X"},
		"bytes behind": {client: func(p *peer) { p.send(append(bytes.Clone(goodbye), parse...)) }, reason: "in flight", heard: "X"},
		"a Sync more":  {client: func(p *peer) { p.send(pgwire.Encode(&pgproto3.Sync{})); p.send(goodbye); p.expectEnd() }, answer: func(_ *peer, said string) bool { return said == "S" }, reason: "in flight", heard: "S, X"},
		"an answer to nothing": {client: func(p *peer) { p.query("q"); p.expect(pgwire.Encode(ready)); p.takeLeave() }, answer: func(p *peer, said string) bool {
			if said == "q" {
				p.send(&pgproto3.CommandComplete{CommandTag: []byte(said)}, ready, ready)
			}
			return said == "q"
		}, reason: "in flight", heard: "q, X"},
		"something else with X": {client: func(p *peer) { p.send([]byte("X\x00\x00\x00\x05?")); p.send(goodbye); p.expectEnd() }, reason: "did not terminate", heard: "X"},
		"DISCARD ALL fails": {client: func(p *peer) { p.takeLeave() }, answer: func(p *peer, said string) bool {
			if said == "DISCARD ALL" {
				p.send(failing, ready)
			}
			return said == "DISCARD ALL"
		}, reason: "cannot be reset", heard: afterwards},
		"the server ends at DISCARD ALL": {client: func(p *peer) { p.takeLeave() },
			answer: func(p *peer, said string) bool { p.Close(); return true }, reason: "cannot be reset"},
		"in a transaction behind it": {client: func(p *peer) { p.takeLeave() },
			answer: func(p *peer, said string) bool { p.send(inTransaction); return true }, reason: "cannot be reset"},
		"an answer more to it": {client: func(p *peer) { p.takeLeave() }, answer: func(p *peer, said string) bool {
			if said == "RESET ROLE" {
				p.send(ready, ready)
			}
			return said == "RESET ROLE"
		}, reason: "cannot be reset"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &backend{answer: test.answer}
			p, address, logs := b.pooled(t, nil)
			test.client(connected(t, address))
			if reason := reasonOfEnd(t, logs, 1); !strings.Contains(reason, test.reason) {
				t.Errorf("not kept because %q, want %q", reason, test.reason)
			}
			if logs.FilterMessage("session ended").All()[0].ContextMap()["kept"] != nil {
				t.Error("the log says kept")
			}
			if got := p.pool.Stats(); got != (pool.Stats{}) {
				t.Errorf("counted %+v", got)
			}
			until(t, "the connection's end", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.ended == 1 })
			if test.heard != "" {
				b.expect(t, test.heard)
			}
			// And nobody notices.
			p, address, _ = (&backend{}).pooled(t, nil)
			connected(t, address).takeLeave()
			untilIdle(t, p, 1)
		})
	}
}

// expectRest reads to the end.
func (p *peer) expectRest() {
	p.t.Helper()
	if n, err := io.Copy(io.Discard, p); n == 0 || err != nil {
		p.t.Errorf("read %d bytes, %v", n, err)
	}
}

// Who takes leave before it has read all that was said to it can still read that,
// whatever else it says.
func TestLeaveBeforeTheAnswerIsRead(t *testing.T) {
	t.Parallel()
	b := &backend{}
	p, address, _ := b.pooled(t, nil)
	client := connected(t, address)
	client.send(&pgproto3.Query{String: "q"})
	until(t, "the answer", func() bool { return b.all() == "q" && answered(p) })
	client.send(goodbye)
	until(t, "the reset", func() bool { return b.all() == "q, "+afterwards })
	client.send([]byte("and another thing"))
	client.expect(slices.Concat(pgwire.Encode(&pgproto3.CommandComplete{CommandTag: []byte("q")}), pgwire.Encode(ready)))
	client.expectEnd()
	client.Close()
	untilIdle(t, p, 1)
}

// answered reports whether the one session has had an answer.
func answered(p *Proxy) bool { return p.Counts().Down > 0 }

// Messages may come in pieces.
func TestMessagesInPieces(t *testing.T) {
	t.Parallel()
	b := &backend{}
	p, address, _ := b.pooled(t, nil)
	client := connected(t, address)
	said := pgwire.Encode(&pgproto3.Query{String: "XXXXX"})
	for i := range said {
		client.send(said[i : i+1])
	}
	client.expect(slices.Concat(pgwire.Encode(&pgproto3.CommandComplete{CommandTag: []byte("XXXXX")}), pgwire.Encode(ready)))
	client.takeLeave()
	untilIdle(t, p, 1)
	b.expect(t, "XXXXX, "+afterwards)
}

// A connection that has ended while it was idle is noticed before anybody gets it; the
// client has a new one.
func TestDeadWhileIdle(t *testing.T) {
	t.Parallel()
	fatal := &pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P01", Message: "terminating connection due to administrator command"}
	for name, end := range map[string]func(p *peer){
		"closed":              func(p *peer) { p.Close() },
		"closed without TLS":  func(p *peer) { p.raw.Close() },
		"reset":               func(p *peer) { p.reset() },
		"FATAL":               func(p *peer) { p.send(fatal); p.Close() },
		"FATAL, not closed":   func(p *peer) { p.send(fatal) },
		"an answer to nobody": func(p *peer) { p.send(ready, &pgproto3.DataRow{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &backend{}
			p, address, logs := b.pooled(t, nil)
			connected(t, address).takeLeave()
			untilIdle(t, p, 1)
			end(b.peers[0])
			// It is for the proxy's system to have it; a client that comes before that has
			// what any client has whose server dies just then.
			b.untilArrived(t)
			client := connected(t, address)
			client.query("alive")
			client.takeLeave()
			if got := b.all(); got != afterwards+"; alive" && !strings.HasPrefix(got, afterwards+"; alive, ") {
				t.Errorf("the server heard %q", got)
			}
			if logs.FilterMessage("pooled connection discarded").Len() != 1 {
				t.Error("not logged")
			}
			untilIdle(t, p, 1)
		})
	}
}

// A connection that was idle for a while is asked whether it is alive. One that does not
// answer takes the others of the same server with it.
func TestSilentWhileIdle(t *testing.T) {
	t.Parallel()
	var silent sync.Map // connections
	b := &backend{answer: func(p *peer, said string) bool {
		_, yes := silent.Load(p)
		return yes && said == "S"
	}}
	p, address, _ := b.pooled(t, func(p *Proxy) { p.pool.CheckDelay = 1 })
	first, second := connected(t, address), connected(t, address)
	first.takeLeave()
	second.takeLeave()
	untilIdle(t, p, 2)
	connected(t, address).takeLeave()
	untilIdle(t, p, 2)
	if got := b.all(); strings.Count(got, "S, "+afterwards) != 1 {
		t.Errorf("the server heard %q, want one to be asked", got)
	}
	for _, p := range b.peers {
		silent.Store(p, true)
	}
	began := time.Now()
	connected(t, address).takeLeave()
	if took := time.Since(began); took < time.Second || took > 2*time.Second {
		t.Errorf("noticed after %v", took)
	}
	untilIdle(t, p, 1)
	if got := len(b.peers); got != 3 {
		t.Errorf("%d connections", got)
	}
}

// A server that does not answer DISCARD ALL keeps nobody waiting.
func TestSilentAtReset(t *testing.T) {
	t.Parallel()
	b := &backend{answer: func(_ *peer, said string) bool { return said == "DISCARD ALL" }}
	p, address, logs := b.pooled(t, nil)
	client := connected(t, address)
	began := time.Now()
	client.takeLeave()
	connected(t, address).Close()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the next client had to wait for %v", took)
	}
	until(t, "both ends", func() bool { return logs.FilterMessage("session ended").Len() == 2 })
	if reason := reasonOfEnd(t, logs, 2); !strings.Contains(reason, "cannot be reset") || time.Since(began) < 5*time.Second {
		t.Errorf("after %v not kept because %q", time.Since(began), reason)
	}
	if got := p.pool.Stats(); got != (pool.Stats{}) {
		t.Errorf("counted %+v", got)
	}
}

// A client that is gone when it should get a pooled connection does not take it along
// in the counts.
func TestClientGoneAtHandOver(t *testing.T) {
	t.Parallel()
	ca, s := good(t, (&backend{}).serve)
	p, _ := start(t, ca, s, func(p *Proxy) { p.PoolSize = 1 })
	p.start()
	ours, theirs := net.Pipe()
	theirs.Close()
	session := &session{proxy: p, client: netconn.New(ours)}
	packet := pgwire.StartupPacket{Code: 3 << 16, Payload: ordinaryStartup[8:]}
	if _, err := session.login(packet); !errors.Is(err, errClientLeft) {
		t.Errorf("got %v", err)
	}
	if got := p.pool.Stats(); got != (pool.Stats{}) {
		t.Errorf("counted %+v", got)
	}
}

// corked is a connection whose last words leave together.
type corked struct {
	net.Conn
	cork atomic.Bool
	said []byte
}

func (c *corked) Write(b []byte) (int, error) {
	if c.cork.Load() {
		c.said = append(c.said, b...)
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *corked) Close() error {
	_ = c.SetWriteDeadline(time.Time{})
	_, _ = c.Conn.Write(c.said)
	return c.Conn.Close()
}

// A client in TLS ends that right behind its Terminate, and crypto/tls may tell of
// both at once.
func TestTerminateWithCloseNotify(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ca := newAuthority(t)
			b := &backend{}
			p, address, _ := b.pooled(t, withClientTLS(t, ca))
			client := dial(t, address)
			client.send(pgwire.Encode(&pgproto3.SSLRequest{}))
			client.expect([]byte{'S'})
			socket := &corked{Conn: client.raw}
			client.Conn = tls.Client(socket, &tls.Config{ServerName: "localhost", RootCAs: ca.pool(), MaxVersion: version})
			client.connected()
			client.query("in TLS")
			socket.cork.Store(true)
			client.send(goodbye)
			client.Close()
			untilIdle(t, p, 1)
		})
	}
}
