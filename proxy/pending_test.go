package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/proxy/stats"
)

// few lets only a few arrive at once, and does not wait for them for long.
func few(most int, grace time.Duration) func(*Proxy) {
	return func(p *Proxy) {
		p.MaxPending = most
		p.admission.pending.grace = grace
	}
}

// arrived is how many are on the list.
func (p *Proxy) arrived() int {
	p.admission.pending.mu.Lock()
	defer p.admission.pending.mu.Unlock()
	return p.admission.pending.conns.Len()
}

// drip sends a byte now and then, which makes no startup packet.
func (p *peer) drip(ctx context.Context) {
	for n := range len(ordinaryStartup) - 1 {
		select {
		case <-time.After(20 * time.Millisecond):
			_, _ = p.raw.Write(ordinaryStartup[n : n+1])
		case <-ctx.Done():
			return
		}
	}
}

// Those who say nothing, or nothing whole, give way to who comes next, the first of them
// first. They are told, and are gone at once.
func TestSilentClientsGiveWay(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	p, address := start(t, ca, s, few(3, 50*time.Millisecond))
	silent, half, slow := dial(t, address), dial(t, address), dial(t, address)
	half.send(ordinaryStartup[:10])
	until(t, "them to arrive", func() bool { return p.arrived() == 3 })
	ctx, stop := context.WithCancel(t.Context())
	var dripping sync.WaitGroup
	dripping.Go(func() { slow.drip(ctx) })
	defer dripping.Wait()
	defer stop()
	for _, who := range []struct {
		name   string
		client *peer
	}{{"silent", silent}, {"in the middle of its packet", half}, {"slow", slow}} {
		connected(t, address).Close() // for whom one has to give way
		if e := who.client.fatal(); e.Code != "53300" || e.Hint == "" {
			t.Errorf("the one that is %s is told %+v", who.name, e)
		}
		dial(t, address) // takes the place
		until(t, "it to arrive", func() bool { return p.arrived() == 3 })
	}
	if rejected := p.Counts().Results[stats.Rejected]; rejected != 3 {
		t.Errorf("%d were rejected", rejected)
	}
}

// A storm of clients that all say what they want loses nobody: who does not fit waits.
func TestStormOfClients(t *testing.T) {
	const clients = 300
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	p, address := start(t, ca, s, few(2, limit))
	var all sync.WaitGroup
	for range clients {
		client := dial(t, address)
		all.Go(func() { client.send(ordinaryStartup) })
	}
	all.Wait()
	until(t, "all of them to be in", func() bool { return p.Counts().Results[stats.OK] == clients })
	if rejected := p.Counts().Results[stats.Rejected]; rejected > 0 {
		t.Errorf("%d were rejected", rejected)
	}
}

// One that has begun a handshake and does not go on gives way, too.
func TestHandshakesGiveWay(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	p, address := start(t, ca, s, func(p *Proxy) {
		few(1, 10*time.Millisecond)(p)
		p.ClientTLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, serverName, time.Now().Add(time.Hour))}}
	})
	begun := dial(t, address)
	begun.send([]byte{0, 0, 0, 8, 4, 210, 22, 47})
	begun.expect([]byte{'S'})
	until(t, "it to arrive", func() bool { return p.arrived() == 1 })
	connected(t, address).Close()
	begun.expectEnd()
}

// Who waits for room does not hold up the end.
func TestShutdownWhileFull(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	p, address := start(t, ca, s, few(1, time.Hour))
	for range 3 {
		dial(t, address)
	}
	until(t, "one to arrive", func() bool { return p.arrived() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	p.Shutdown(ctx)
	if ctx.Err() != nil {
		t.Error("it did not end")
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("it still listens")
	}
}

// Who said at once what it wants loses nothing to those who say nothing, however long it
// had to wait for its place.
func TestClientsBehindSilentOnes(t *testing.T) {
	t.Parallel()
	const silent, clients = 4, 60
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	p, address := start(t, ca, s, few(silent, 100*time.Millisecond))
	for range silent {
		dial(t, address)
	}
	until(t, "them to arrive", func() bool { return p.arrived() == silent })
	for range clients {
		client := dial(t, address)
		client.send(ordinaryStartup)
		for range silent {
			dial(t, address)
		}
	}
	until(t, "all of them to be in", func() bool { return p.Counts().Results[stats.OK] == clients })
}
