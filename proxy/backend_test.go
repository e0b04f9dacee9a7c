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
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap/zaptest/observer"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/pool"
)

// backend is a server that completes every request, so that its connections can be pooled.
// It records the requests of each connection.
type backend struct {
	keys     []*pgproto3.BackendKeyData // of its connections, in order; the last one is repeated
	statuses []*pgproto3.ParameterStatus
	// respond may respond to a request, and reports whether it did. If nil, it does not.
	respond func(p *peer, request string) bool

	mu             sync.Mutex
	received       [][]string // requests by connection: the text of a query, or the message type
	ended          int        // connections
	cancelRequests []*pgproto3.CancelRequest
	peers          []*peer
	lastConn       net.Conn
}

func (b *backend) serve(p *peer) {
	packet := p.startup()
	if isCancel(packet) {
		var request pgproto3.CancelRequest
		_ = request.Decode(packet[4:])
		b.mu.Lock()
		defer b.mu.Unlock()
		b.cancelRequests = append(b.cancelRequests, &request)
		return
	}
	p.requestToken()
	b.mu.Lock()
	n := len(b.received)
	b.received = append(b.received, nil)
	b.peers = append(b.peers, p)
	b.mu.Unlock()
	messages := []any{authOK}
	for _, status := range b.statuses {
		messages = append(messages, status)
	}
	if len(b.keys) > 0 {
		messages = append(messages, b.keys[min(n, len(b.keys)-1)])
	}
	p.send(append(messages, ready)...)
	for b.handleMessage(p, n) {
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended++
}

// handleMessage reads a message and responds to it. It reports whether the connection goes on.
func (b *backend) handleMessage(p *peer, n int) bool {
	m := p.message()
	if m == nil {
		return false
	}
	request := string(m[0])
	if m[0] == pgwire.Query {
		request = string(bytes.TrimSuffix(m[pgwire.HeaderSize:], []byte{0}))
	}
	b.mu.Lock()
	b.received[n] = append(b.received[n], request)
	b.mu.Unlock()
	switch {
	case b.respond != nil && b.respond(p, request):
	case m[0] == pgwire.Terminate:
		return false
	case m[0] == pgwire.Query:
		p.send(&pgproto3.CommandComplete{CommandTag: []byte(request)}, ready)
	case m[0] == pgwire.Sync:
		p.send(ready)
	}
	return true
}

// transcript returns the requests so far, by connection.
func (b *backend) transcript() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var connections []string
	for _, requests := range b.received {
		connections = append(connections, strings.Join(requests, ", "))
	}
	return strings.Join(connections, "; ")
}

func (b *backend) expect(t *testing.T, want string) {
	t.Helper()
	if got := b.transcript(); got != want {
		t.Errorf("the server received %q, want %q", got, want)
	}
}

// startPooled starts a proxy with a pool for the server.
func (b *backend) startPooled(t *testing.T, change func(*Proxy)) (p *Proxy, address string, logs *observer.ObservedLogs) {
	t.Helper()
	ca, s := trustedServer(t, b.serve)
	p, address = startProxy(t, ca, s, func(p *Proxy) {
		p.MaxIdleConns = 4
		p.pool.CheckDelay = time.Hour // no checks, however slow the machine is
		p.Upstream.DialContext = b.dial
		logs = observeLogs(p)
		if change != nil {
			change(p)
		}
	})
	return p, address, logs
}

// dial connects to the server, and keeps the connection for waitUnread.
func (b *backend) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lastConn = conn
	return conn, err
}

// query sends a query and reads the response.
func (p *peer) query(text string) {
	p.t.Helper()
	p.send(&pgproto3.Query{String: text})
	p.expect(slices.Concat(pgwire.Encode(&pgproto3.CommandComplete{CommandTag: []byte(text)}), pgwire.Encode(ready)))
}

// closeClean sends Terminate and expects the end of the connection.
func (p *peer) closeClean() {
	p.t.Helper()
	p.send(terminate)
	p.expectEnd()
	p.Close()
}

// waitIdle waits until the pool has n idle connections and no others.
func waitIdle(t *testing.T, p *Proxy, n int) {
	t.Helper()
	eventually(t, fmt.Sprint(n, " idle connections"), func() bool { return p.pool.Stats() == pool.Stats{Idle: n} })
}

// waitUnread waits until the last connection to the server has unread data.
func (b *backend) waitUnread(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	tcp := b.lastConn.(*net.TCPConn)
	b.mu.Unlock()
	eventually(t, "unread data", func() bool { return hasUnread(tcp) })
}

// discardReason waits for the ends of n sessions, and returns the logged reason why the last
// discarded connection was not kept.
func discardReason(t *testing.T, logs *observer.ObservedLogs, n int) string {
	t.Helper()
	eventually(t, "the session's end", func() bool { return logs.FilterMessage("session ended").Len() == n })
	all := logs.FilterMessage("connection not kept").All()
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1].ContextMap()["error"].(string)
}

// resetQueries is what a server receives after Terminate.
const resetQueries = "DISCARD ALL, RESET ROLE"
