package proxy

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap/zaptest/observer"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/pool"
)

// backend is a server that answers what it is asked, so that its connections can be
// kept, and notes what was said on each of them.
type backend struct {
	keys     []*pgproto3.BackendKeyData // of its connections in turn, the last of them for all others
	statuses []*pgproto3.ParameterStatus
	// answer, if not nil, is asked first, and reports whether it has dealt with it.
	answer func(p *peer, said string) bool

	mu       sync.Mutex
	said     [][]string
	ended    int
	requests []*pgproto3.CancelRequest
	peers    []*peer
	dialled  net.Conn
}

func (b *backend) serve(p *peer) {
	packet := p.startup()
	if isCancel(packet) {
		var request pgproto3.CancelRequest
		_ = request.Decode(packet[4:])
		b.mu.Lock()
		defer b.mu.Unlock()
		b.requests = append(b.requests, &request)
		return
	}
	p.ask()
	b.mu.Lock()
	n := len(b.said)
	b.said = append(b.said, nil)
	b.peers = append(b.peers, p)
	b.mu.Unlock()
	messages := []any{okay}
	for _, status := range b.statuses {
		messages = append(messages, status)
	}
	if len(b.keys) > 0 {
		messages = append(messages, b.keys[min(n, len(b.keys)-1)])
	}
	p.send(append(messages, ready)...)
	for b.next(p, n) {
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended++
}

// next answers one message.
func (b *backend) next(p *peer, n int) bool {
	m := p.message()
	if m == nil {
		return false
	}
	said := string(m[0])
	if m[0] == pgwire.Query {
		said = string(bytes.TrimSuffix(m[pgwire.HeaderSize:], []byte{0}))
	}
	b.mu.Lock()
	b.said[n] = append(b.said[n], said)
	b.mu.Unlock()
	switch {
	case b.answer != nil && b.answer(p, said):
	case m[0] == pgwire.Terminate:
		return false
	case m[0] == pgwire.Query:
		p.send(&pgproto3.CommandComplete{CommandTag: []byte(said)}, ready)
	case m[0] == pgwire.Sync:
		p.send(ready)
	}
	return true
}

// all is what was said on the connections so far.
func (b *backend) all() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var connections []string
	for _, said := range b.said {
		connections = append(connections, strings.Join(said, ", "))
	}
	return strings.Join(connections, "; ")
}

func (b *backend) expect(t *testing.T, want string) {
	t.Helper()
	if got := b.all(); got != want {
		t.Errorf("the server heard %q, want %q", got, want)
	}
}

// pooled starts a proxy that keeps connections to the server.
func (b *backend) pooled(t *testing.T, change func(*Proxy)) (p *Proxy, address string, logs *observer.ObservedLogs) {
	t.Helper()
	ca, s := good(t, b.serve)
	p, address = start(t, ca, s, func(p *Proxy) {
		p.PoolSize = 4
		p.Upstream.DialContext = b.dial
		logs = observed(p)
		if change != nil {
			change(p)
		}
	})
	return p, address, logs
}

// dial connects to the server, and keeps the connection for untilArrived.
func (b *backend) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dialled = conn
	return conn, err
}

// query sends a query and reads the answer.
func (p *peer) query(text string) {
	p.t.Helper()
	p.send(&pgproto3.Query{String: text})
	p.expect(slices.Concat(pgwire.Encode(&pgproto3.CommandComplete{CommandTag: []byte(text)}), pgwire.Encode(ready)))
}

// takeLeave ends a client's session in order.
func (p *peer) takeLeave() {
	p.t.Helper()
	p.send(goodbye)
	p.expectEnd()
	p.Close()
}

// untilIdle waits until that many connections are.
func untilIdle(t *testing.T, p *Proxy, n int) {
	t.Helper()
	until(t, fmt.Sprint(n, " idle connections"), func() bool { return p.pool.Stats() == pool.Stats{Idle: n} })
}

// untilArrived waits until the last connection to the server has something to be read.
func (b *backend) untilArrived(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	tcp := b.dialled.(*net.TCPConn)
	b.mu.Unlock()
	until(t, "it to arrive", func() bool { return hasArrived(tcp) })
}

// reasonOfEnd waits for the ends of that many sessions, and returns the reason why the
// last connection was not kept.
func reasonOfEnd(t *testing.T, logs *observer.ObservedLogs, n int) string {
	t.Helper()
	until(t, "the session's end", func() bool { return logs.FilterMessage("session ended").Len() == n })
	all := logs.FilterMessage("connection not kept").All()
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1].ContextMap()["error"].(string)
}

// afterwards is what the server hears when a client has left in order.
const afterwards = "DISCARD ALL, RESET ROLE"
