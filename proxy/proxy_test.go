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

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

func TestManySessionsAtOnce(t *testing.T) {
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	_, address := startProxy(t, ca, s, nil)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			client := openSession(t, address)
			data := []byte(strings.Repeat(string(rune('a'+i%26)), 1000+i))
			client.send(data)
			client.expect(data)
			client.Close()
		})
	}
	all.Wait()
}

// While the proxy drains, sessions continue and new clients are rejected. It stops when the
// last session has ended.
func TestShutdownDrains(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	p, address := startProxy(t, ca, s, nil)
	client := openSession(t, address)
	idle := dial(t, address)

	ended := make(chan int)
	go func() { ended <- p.Shutdown(context.Background()) }()
	eventually(t, "draining", func() bool { p.sessions.mu.Lock(); defer p.sessions.mu.Unlock(); return p.sessions.draining })

	late := dial(t, address)
	late.send(ordinaryStartup)
	if e := late.expectError(); e.Code != pgwire.CannotConnectNow {
		t.Errorf("got %+v", e)
	}
	client.send([]byte("still here"))
	client.expect([]byte("still here"))
	client.Close()
	if n := <-ended; n != 0 {
		t.Errorf("%d sessions ended", n)
	}
	idle.expectEnd()
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("still listening")
	}
}

// When its context is done, Shutdown ends open sessions and logins, and counts the sessions.
func TestShutdownEndsSessions(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	ca, s := trustedServer(t, func(p *peer) {
		p.acceptLogin()
		_, err := p.Read(make([]byte, 1))
		ended <- err
	})
	hung := make(chan struct{})
	p, address := startProxy(t, ca, s, func(p *Proxy) {
		dial := (&net.Dialer{}).DialContext
		var dials atomic.Int32
		p.Upstream.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if dials.Add(1) == 2 { // a login
				close(hung)
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return dial(ctx, network, address)
		}
	})
	client := openSession(t, address)
	waiting := dial(t, address)
	waiting.send(ordinaryStartup)
	<-hung
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if n := p.Shutdown(ctx); n != 1 {
		t.Errorf("%d sessions ended, want 1", n)
	}
	client.expectEnd()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("the server read %v, want a clean end", err)
	}
}

// flakyListener fails to accept a number of times.
type flakyListener struct {
	net.Listener
	failures atomic.Int32
}

func (f *flakyListener) Accept() (net.Conn, error) {
	if f.failures.Add(-1) >= 0 {
		return nil, errors.New("too many open files")
	}
	return f.Listener.Accept()
}

func TestAcceptErrors(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	p, _ := startProxy(t, ca, s, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &flakyListener{Listener: listener}
	f.failures.Store(3)
	served := make(chan error)
	go func() { served <- p.Serve(f) }()
	client := openSession(t, listener.Addr().String())
	client.Close()
	p.Shutdown(context.Background())
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// With HandOff, Shutdown closes the listener, but clients that have connected get their
// sessions.
func TestShutdownHandOff(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	var accepted atomic.Uint64
	p, address := startProxy(t, ca, s, func(p *Proxy) { p.HandOff, p.SessionIDs = true, &accepted })
	early := dial(t, address)
	eventually(t, "the client to be accepted", func() bool { return accepted.Load() == 1 })
	ended := make(chan int)
	go func() { ended <- p.Shutdown(context.Background()) }()
	eventually(t, "the listener to close", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	early.openSession()
	early.send([]byte("open"))
	early.expect([]byte("open"))
	early.Close()
	if n := <-ended; n != 0 {
		t.Errorf("%d sessions ended", n)
	}
}
