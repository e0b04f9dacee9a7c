package proxy

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap/zaptest/observer"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

func TestRelayBothDirections(t *testing.T) {
	t.Parallel()
	data := make([]byte, 8<<20)
	_, _ = rand.Read(data)
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	for name, connect := range clientTransports(ca) {
		t.Run(name, func(t *testing.T) {
			_, address := startProxy(t, ca, s, withClientTLS(t, ca))
			client := connect(t, address)
			go client.send(data)
			client.expect(data)
		})
	}
}

// withClientTLS offers TLS to clients, with a certificate for localhost.
func withClientTLS(t testing.TB, ca authority) func(*Proxy) {
	certificate := ca.issue(t, "localhost", time.Time{})
	return func(p *Proxy) { p.ClientTLS = &tls.Config{Certificates: []tls.Certificate{certificate}} }
}

// clientTransports returns functions that open a session, by kind of encryption.
func clientTransports(ca authority) map[string]func(testing.TB, string) *peer {
	return map[string]func(testing.TB, string) *peer{
		"no TLS": openSession,
		"TLS": func(t testing.TB, address string) *peer {
			return dialTLS(t, address, ca, false, pgwire.ALPN).openSession()
		},
		"direct TLS": func(t testing.TB, address string) *peer {
			return dialTLS(t, address, ca, true, pgwire.ALPN).openSession()
		},
	}
}

// The end of one side's connection becomes the end of the other's, after the data in
// flight. The log has one line, with the side and the cause.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	last := bytes.Repeat([]byte("in flight "), 100_000)
	fatal := pgwire.Encode(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P01", Message: "terminating connection due to administrator command"})
	for _, test := range []struct {
		name   string
		server func(*peer)
		client func(*peer)
		by     string
		how    string
	}{
		{"client closes", func(p *peer) { p.expect(last); p.expectEnd() },
			func(p *peer) { p.send(last); p.Close() }, "client", "closed"},
		{"client terminates and the server closes first", func(p *peer) { p.expect(terminate) },
			func(p *peer) { p.send(terminate); p.expectEnd() }, "client", "terminated"},
		{"client terminates after FATAL", func(p *peer) { p.send(fatal); p.expect(terminate) },
			func(p *peer) { p.expect(fatal); p.send(terminate); p.expectEnd() }, "server", "closed"},
		{"client terminates after a response, in pieces", func(p *peer) { p.send(last, pgwire.Encode(ready)); p.expect(terminate) },
			func(p *peer) {
				p.expect(last)
				p.expect(pgwire.Encode(ready))
				p.send(terminate[:2])
				p.send(terminate[2:])
				p.expectEnd()
			}, "client", "terminated"},
		{"client half-closes and reads on", func(p *peer) { p.expect(last); p.expectEnd(); p.send(last) },
			func(p *peer) { p.send(last); halfClose(p.Conn); halfClose(p.raw); p.expect(last); p.expectEnd() }, "client", "closed"},
		{"client crashes in TLS", func(p *peer) { p.expect(last); p.expectEnd() },
			func(p *peer) { p.send(last); p.raw.Close() }, "client", "closed"},
		{"client resets", func(p *peer) { p.expect(last); p.send(terminate); p.expectReset() },
			func(p *peer) { p.send(last); p.expect(terminate); p.reset() }, "client", "reset"},
		{"client resets in the middle of a result", func(p *peer) { p.send(bytes.Repeat(last, 30)) },
			func(p *peer) { p.expect(last); p.reset() }, "client", "reset"},
		{"server closes", func(p *peer) { p.send(last) },
			func(p *peer) { p.expect(last); p.expectEnd() }, "server", "closed"},
		{"server sends FATAL", func(p *peer) { p.send(fatal) },
			func(p *peer) { p.expect(fatal); p.expectEnd() }, "server", "closed"},
		{"server sends FATAL while the client sends", func(p *peer) { p.expect(last[:1000]); p.send(fatal) },
			func(p *peer) {
				go func() {
					for {
						if _, err := p.Write(last); err != nil {
							return
						}
					}
				}()
				p.expect(fatal)
			}, "server", ""}, // closing with unread bytes may be a reset
		{"server closes without TLS's close_notify", func(p *peer) { p.send(last); p.raw.Close() },
			func(p *peer) { p.expect(last); p.expectEnd() }, "server", "closed"},
		{"server resets", func(p *peer) { p.expect(last[:10]); p.reset() },
			func(p *peer) { p.send(last[:10]); p.expectReset() }, "server", "reset"},
		{"server resets after its last message", func(p *peer) { p.send(last); p.expect(terminate); p.reset() },
			func(p *peer) { p.expect(last); p.send(terminate); p.expectReset() }, "server", "reset"},
	} {
		ca := newAuthority(t)
		for transport, connect := range clientTransports(ca) {
			t.Run(test.name+", "+transport, func(t *testing.T) {
				t.Parallel()
				served := make(chan struct{})
				s := startServer(t, ca.issue(t, serverName, time.Time{}), nil, func(p *peer) { defer close(served); p.acceptLogin(); test.server(p) })
				var logs *observer.ObservedLogs
				p, address := startProxy(t, ca, s, func(p *Proxy) { withClientTLS(t, ca)(p); logs = observeLogs(p) })
				test.client(connect(t, address))
				<-served
				eventually(t, "the end of the session", func() bool { return logs.FilterMessage("session ended").Len() > 0 })
				ends := logs.FilterMessage("session ended").All()
				if len(ends) != 1 || ends[0].ContextMap()["by"] != test.by || test.how != "" && ends[0].ContextMap()["how"] != test.how {
					t.Errorf("logged %v, want one line: %s %s", ends, test.by, test.how)
				}
				eventually(t, "the proxy to forget the session", func() bool {
					p.sessions.mu.Lock()
					defer p.sessions.mu.Unlock()
					return len(p.sessions.servers) == 0 && p.cancels.Len() == 0
				})
			})
		}
	}
}

// reset closes the connection with a RST.
func (p *peer) reset() {
	_ = p.raw.(*net.TCPConn).SetLinger(0)
	p.raw.Close()
}

// halfClose closes the writing side of a connection.
func halfClose(conn net.Conn) {
	_ = conn.(interface{ CloseWrite() error }).CloseWrite()
}

// expectReset expects a reset before any byte. Only Linux reports it exactly.
func (p *peer) expectReset() {
	p.t.Helper()
	n, err := io.Copy(io.Discard, p)
	if n != 0 || runtime.GOOS == "linux" && !errors.Is(err, syscall.ECONNRESET) {
		p.t.Errorf("read %d bytes, %v, want a reset", n, err)
	}
}
