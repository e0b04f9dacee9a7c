package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestManySessionsAtOnce(t *testing.T) {
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	_, address := start(t, ca, s, nil)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			client := connected(t, address)
			said := []byte(strings.Repeat(string(rune('a'+i%26)), 1000+i))
			client.send(said)
			client.expect(said)
			client.Close()
		})
	}
	all.Wait()
}

// While the proxy drains, sessions go on, cancel requests are served, and new
// clients are told; it stops as soon as the last session has ended.
func TestShutdownDrains(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	p, address := start(t, ca, s, nil)
	client := connected(t, address)
	idle := dial(t, address)

	cut := make(chan int)
	go func() { cut <- p.Shutdown(context.Background()) }()
	until(t, "draining", func() bool { p.sessions.mu.Lock(); defer p.sessions.mu.Unlock(); return p.sessions.draining })

	late := dial(t, address)
	late.send(ordinaryStartup)
	if e := late.fatal(); e.Code != "57P03" {
		t.Errorf("a new client is told %+v", e)
	}
	client.send([]byte("still here"))
	client.expect([]byte("still here"))
	client.Close()
	if n := <-cut; n != 0 {
		t.Errorf("%d sessions cut", n)
	}
	idle.expectEnd()
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("still listening")
	}
}

func TestShutdownCutsWhatIsLeft(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	ca, s := good(t, func(p *peer) {
		p.logIn()
		_, err := p.Read(make([]byte, 1))
		ended <- err
	})
	hung := make(chan struct{})
	p, address := start(t, ca, s, func(p *Proxy) {
		dial := (&net.Dialer{}).DialContext
		var dials atomic.Int32
		p.Upstream.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if dials.Add(1) == 2 { // one that is still logging in
				close(hung)
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return dial(ctx, network, address)
		}
	})
	client := connected(t, address)
	waiting := dial(t, address)
	waiting.send(ordinaryStartup)
	<-hung
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if n := p.Shutdown(ctx); n != 1 {
		t.Errorf("%d sessions cut, want 1", n)
	}
	client.expectEnd() // and not a byte before it
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("the server saw %v, want a clean end", err)
	}
}

// flaky fails to accept now and then, as when there are too many open files.
type flaky struct {
	net.Listener
	failures atomic.Int32
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.failures.Add(-1) >= 0 {
		return nil, errors.New("too many open files")
	}
	return f.Listener.Accept()
}

func TestAcceptGoesOn(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	p, _ := start(t, ca, s, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{Listener: listener}
	f.failures.Store(3)
	served := make(chan error)
	go func() { served <- p.Serve(f) }()
	client := connected(t, listener.Addr().String())
	client.Close()
	p.Shutdown(context.Background())
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// A proxy with a successor lets those in who have connected, and then accepts nobody.
func TestShutdownLeavesClients(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	p, address := start(t, ca, s, func(p *Proxy) { p.HandOff = true })
	early := dial(t, address)
	until(t, "the client to be accepted", func() bool { return p.lastID.Load() == 1 })
	cut := make(chan int)
	go func() { cut <- p.Shutdown(context.Background()) }()
	until(t, "nobody to be accepted", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	early.connected()
	early.send([]byte("here"))
	early.expect([]byte("here"))
	early.Close()
	if n := <-cut; n != 0 {
		t.Errorf("%d sessions cut", n)
	}
}
