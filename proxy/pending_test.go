package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// pendingLimit sets MaxPending and the grace period.
func pendingLimit(most int, grace time.Duration) func(*Proxy) {
	return func(p *Proxy) {
		p.MaxPending = most
		p.admission.pending.grace = grace
	}
}

// pendingCount returns the number of pending connections.
func (p *Proxy) pendingCount() int {
	p.admission.pending.mu.Lock()
	defer p.admission.pending.mu.Unlock()
	return p.admission.pending.conns.Len()
}

// sendSlowly sends all of a startup packet but its last byte, byte by byte.
func (p *peer) sendSlowly(ctx context.Context) {
	for n := range len(ordinaryStartup) - 1 {
		select {
		case <-time.After(20 * time.Millisecond):
			_, _ = p.raw.Write(ordinaryStartup[n : n+1])
		case <-ctx.Done():
			return
		}
	}
}

// At the limit, the oldest connection without a complete startup packet is evicted for the next
// one, with an error.
func TestPendingEviction(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	p, address := startProxy(t, ca, s, pendingLimit(3, 50*time.Millisecond))
	silent, half, slow := dial(t, address), dial(t, address), dial(t, address)
	half.send(ordinaryStartup[:10])
	eventually(t, "the pending connections", func() bool { return p.pendingCount() == 3 })
	ctx, stop := context.WithCancel(t.Context())
	var dripping sync.WaitGroup
	dripping.Go(func() { slow.sendSlowly(ctx) })
	defer dripping.Wait()
	defer stop()
	for _, evicted := range []struct {
		name   string
		client *peer
	}{{"silent", silent}, {"within the startup packet", half}, {"slow", slow}} {
		if evicted.client == slow { // bytes that arrive after the error would reset the connection
			stop()
			dripping.Wait()
		}
		openSession(t, address).Close() // evicts the oldest
		if e := evicted.client.expectError(); e.Code != pgwire.TooManyConnections || e.Hint == "" {
			t.Errorf("%s: got %+v", evicted.name, e)
		}
		dial(t, address) // takes its place
		eventually(t, "the pending connection", func() bool { return p.pendingCount() == 3 })
	}
	if rejected := p.Counts().Results[stats.Rejected]; rejected != 3 {
		t.Errorf("%d were rejected", rejected)
	}
}

// Clients that send their startup packet are not evicted. Above the limit they wait.
func TestPendingStorm(t *testing.T) {
	const clients = 300
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	p, address := startProxy(t, ca, s, pendingLimit(2, testTimeout))
	var all sync.WaitGroup
	for range clients {
		client := dial(t, address)
		all.Go(func() { client.send(ordinaryStartup) })
	}
	all.Wait()
	eventually(t, "all sessions", func() bool { return p.Counts().Results[stats.OK] == clients })
	if rejected := p.Counts().Results[stats.Rejected]; rejected > 0 {
		t.Errorf("%d were rejected", rejected)
	}
}

// A client that stops within the TLS handshake is evicted, too.
func TestPendingTLSHandshakeEvicted(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	p, address := startProxy(t, ca, s, func(p *Proxy) {
		pendingLimit(1, 10*time.Millisecond)(p)
		p.ClientTLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, serverName, time.Now().Add(time.Hour))}}
	})
	begun := dial(t, address)
	begun.send([]byte{0, 0, 0, 8, 4, 210, 22, 47})
	begun.expect([]byte{'S'})
	eventually(t, "the pending connection", func() bool { return p.pendingCount() == 1 })
	openSession(t, address).Close()
	begun.expectEnd()
}

// An accept loop that waits for room does not delay Shutdown.
func TestPendingShutdown(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	p, address := startProxy(t, ca, s, pendingLimit(1, time.Hour))
	for range 3 {
		dial(t, address)
	}
	eventually(t, "one pending connection", func() bool { return p.pendingCount() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	p.Shutdown(ctx)
	if ctx.Err() != nil {
		t.Error("Shutdown did not return")
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("still listening")
	}
}

// A client that sends its startup packet at once is not evicted for silent ones, however
// long it waited for room.
func TestPendingClientsNotEvicted(t *testing.T) {
	t.Parallel()
	const silent, clients = 4, 10
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	p, address := startProxy(t, ca, s, pendingLimit(silent, 250*time.Millisecond))
	for range silent {
		dial(t, address)
	}
	eventually(t, "the pending connections", func() bool { return p.pendingCount() == silent })
	for range clients {
		client := dial(t, address)
		client.send(ordinaryStartup)
		for range silent {
			dial(t, address)
		}
	}
	eventually(t, "all sessions", func() bool { return p.Counts().Results[stats.OK] == clients })
}
