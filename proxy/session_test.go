package proxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

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

func TestSpliceBothWays(t *testing.T) {
	data := make([]byte, 8<<20)
	_, _ = rand.Read(data)
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	_, address := start(t, ca, s, nil)
	client := connected(t, address)
	go client.send(data)
	client.expect(data)
}

// How a session ends on one side is how it ends on the other, all that was on
// its way is delivered first, and the log says once who it was.
func TestSessionEnds(t *testing.T) {
	last := bytes.Repeat([]byte("last words "), 100_000)
	goodbye := encode(&pgproto3.Terminate{})
	fatal := encode(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P01", Message: "terminating connection due to administrator command"})
	for _, test := range []struct {
		name   string
		server func(*peer)
		client func(*peer)
		by     string
	}{
		{"client closes", func(p *peer) { p.expect(last); p.expectEnd() },
			func(p *peer) { p.send(last); p.Close() }, "client"},
		{"client terminates and the server is faster", func(p *peer) { p.expect(goodbye) },
			func(p *peer) { p.send(goodbye); p.expectEnd() }, "client"},
		{"client terminates upon a FATAL", func(p *peer) { p.send(fatal); p.expect(goodbye) },
			func(p *peer) { p.expect(fatal); p.send(goodbye); p.expectEnd() }, "server"},
		{"client terminates behind an answer, in pieces", func(p *peer) { p.send(last, encode(ready)); p.expect(goodbye) },
			func(p *peer) {
				p.expect(last)
				p.expect(encode(ready))
				p.send(goodbye[:2])
				p.send(goodbye[2:])
				p.expectEnd()
			}, "client"},
		{"client half-closes and reads on", func(p *peer) { p.expect(last); p.expectEnd(); p.send(last) },
			func(p *peer) { p.send(last); closeWrite(p.raw); p.expect(last); p.expectEnd() }, "client"},
		{"client resets", func(p *peer) {
			if _, err := io.Copy(io.Discard, p); err != nil {
				p.t.Logf("server saw %v", err)
			}
		}, func(p *peer) { p.raw.(*net.TCPConn).SetLinger(0); p.Close() }, "client"},
		{"client resets in the middle of a result", func(p *peer) { p.send(bytes.Repeat(last, 100)) },
			func(p *peer) { p.expect(last); p.raw.(*net.TCPConn).SetLinger(0); p.Close() }, "client"},
		{"server closes", func(p *peer) { p.send(last) },
			func(p *peer) { p.expect(last); p.expectEnd() }, "server"},
		{"server says FATAL", func(p *peer) { p.send(fatal) },
			func(p *peer) { p.expect(fatal); p.expectEnd() }, "server"},
		{"server says FATAL while the client sends", func(p *peer) { p.expect(last[:1000]); p.send(fatal) },
			func(p *peer) {
				go func() {
					for {
						if _, err := p.Write(last); err != nil {
							return
						}
					}
				}()
				p.expect(fatal)
			}, "server"},
		{"server closes without TLS's close_notify", func(p *peer) { p.send(last); p.raw.Close() },
			func(p *peer) { p.expect(last); p.expectEnd() }, "server"},
		{"server resets", func(p *peer) { p.expect(last[:10]); p.raw.(*net.TCPConn).SetLinger(0); p.raw.Close() },
			func(p *peer) {
				p.send(last[:10])
				if n, _ := io.Copy(io.Discard, p); n != 0 {
					p.t.Errorf("%d bytes that nobody sent", n)
				}
			}, "server"},
	} {
		t.Run(test.name, func(t *testing.T) {
			served := make(chan struct{})
			ca, s := good(t, func(p *peer) { defer close(served); p.logIn(); test.server(p) })
			var logs *observer.ObservedLogs
			p, address := start(t, ca, s, func(p *Proxy) { logs = observed(p) })
			test.client(connected(t, address))
			<-served
			until(t, "the session's end", func() bool { return logs.FilterMessage("session ended").Len() > 0 })
			ends := logs.FilterMessage("session ended").All()
			if len(ends) != 1 || ends[0].ContextMap()["by"] != test.by {
				t.Errorf("log says %v, want the %s once", ends, test.by)
			}
			until(t, "nothing left", func() bool {
				p.mu.Lock()
				defer p.mu.Unlock()
				return len(p.sessions) == 0 && len(p.cancels.byPID) == 0
			})
		})
	}
}

func TestProbesAreNoErrors(t *testing.T) {
	var logs *observer.ObservedLogs
	ca, s := good(t, func(*peer) {})
	_, address := start(t, ca, s, func(p *Proxy) { logs = observed(p) })
	dial(t, address).Close()
	reset := dial(t, address)
	reset.raw.(*net.TCPConn).SetLinger(0)
	reset.Close()
	asked := dial(t, address)
	asked.send(encode(&pgproto3.SSLRequest{}))
	asked.expect([]byte{'N'})
	asked.Close()
	until(t, "three probes", func() bool { return logs.FilterMessage("connection that asked for nothing").Len() == 3 })
	if others := logs.Filter(func(e observer.LoggedEntry) bool { return e.Level > zap.DebugLevel }); others.Len() > 0 {
		t.Errorf("logged above debug: %v", others.All())
	}
}

// A cancel request goes to the address that its session is connected to, inside
// TLS; nobody else's key goes anywhere.
func TestCancel(t *testing.T) {
	ca := newAuthority(t)
	certificate := ca.issue(t, serverName, time.Time{})
	type request struct {
		at  int
		raw []byte
	}
	requests := make(chan request, 10)
	instance := func(at int) *server {
		return startServer(t, certificate, nil, func(p *peer) {
			packet := p.startup()
			if bytes.HasPrefix(packet[4:], []byte{4, 210, 22, 46}) { // 80877102
				requests <- request{at, packet}
				return
			}
			p.ask()
			p.send(okay, &pgproto3.BackendKeyData{ProcessID: 7, SecretKey: bytes.Repeat([]byte{byte(at)}, 32)}, ready)
			p.echo()
		})
	}
	first, second := instance(1), instance(2)
	// A reader endpoint: the same name, another instance each time.
	var dials, dialled atomic.Int32
	_, address := start(t, ca, first, func(p *Proxy) {
		p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dialled.Add(1)
			if address == p.Via && dials.Add(1) == 2 {
				address = second.addr()
			}
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		}
	})
	a, b := connected(t, address), connected(t, address)

	cancel := func(secret byte, size int) {
		client := dial(t, address)
		if secret == 2 { // also behind an SSLRequest
			client.send(encode(&pgproto3.SSLRequest{}))
			client.expect([]byte{'N'})
		}
		client.send(&pgproto3.CancelRequest{ProcessID: 7, SecretKey: bytes.Repeat([]byte{secret}, size)})
		client.expectEnd()
	}
	for _, at := range []int{2, 1} {
		cancel(byte(at), 32)
		// The client's end comes when the server has had its request, not before.
		select {
		case got := <-requests:
			want := encode(&pgproto3.CancelRequest{ProcessID: 7, SecretKey: bytes.Repeat([]byte{byte(at)}, 32)})
			if got.at != at || !bytes.Equal(got.raw, want) {
				t.Errorf("cancel for instance %d: instance %d got %x", at, got.at, got.raw)
			}
		default:
			t.Errorf("cancel for instance %d was not delivered when the client was let go", at)
		}
	}
	before := dialled.Load()
	cancel(3, 32)
	cancel(1, 31)
	cancel(1, 4)
	cancel(1, 0)
	short := dial(t, address)
	short.send([]byte("\x00\x00\x00\x09\x04\xd2\x16\x2e\x07"))
	short.expectEnd()
	if dialled.Load() != before || len(requests) != 0 {
		t.Error("a forged key was forwarded")
	}
	for _, client := range []*peer{a, b} {
		client.send([]byte("unharmed"))
		client.expect([]byte("unharmed"))
		client.Close()
	}
}

func TestCancelOfAnEndedSession(t *testing.T) {
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	p, address := start(t, ca, s, nil)
	connected(t, address).Close()
	until(t, "the session's end", func() bool { return p.cancels.find(key.ProcessID, key.SecretKey) == nil })
	client := dial(t, address)
	client.send(&pgproto3.CancelRequest{ProcessID: key.ProcessID, SecretKey: key.SecretKey})
	client.expectEnd()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.clear) > 1 {
		t.Error("a stale key was forwarded")
	}
}

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
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	p, address := start(t, ca, s, nil)
	client := connected(t, address)
	idle := dial(t, address)

	cut := make(chan int)
	go func() { cut <- p.Shutdown(context.Background()) }()
	until(t, "draining", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.draining })

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
		p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
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
	if n := p.Shutdown(ctx); n != 2 {
		t.Errorf("%d sessions cut, want 2", n)
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
