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

func TestSpliceBothWays(t *testing.T) {
	t.Parallel()
	data := make([]byte, 8<<20)
	_, _ = rand.Read(data)
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	for name, connect := range ways(ca) {
		t.Run(name, func(t *testing.T) {
			_, address := start(t, ca, s, withClientTLS(t, ca))
			client := connect(t, address)
			go client.send(data)
			client.expect(data)
		})
	}
}

// withClientTLS has the proxy offer TLS to clients, as localhost.
func withClientTLS(t testing.TB, ca authority) func(*Proxy) {
	certificate := ca.issue(t, "localhost", time.Time{})
	return func(p *Proxy) { p.ClientTLS = &tls.Config{Certificates: []tls.Certificate{certificate}} }
}

// ways are the ways in which a client's session can begin.
func ways(ca authority) map[string]func(testing.TB, string) *peer {
	return map[string]func(testing.TB, string) *peer{
		"in clear": connected,
		"TLS": func(t testing.TB, address string) *peer {
			return dialTLS(t, address, ca, false, pgwire.ALPN).connected()
		},
		"direct TLS": func(t testing.TB, address string) *peer {
			return dialTLS(t, address, ca, true, pgwire.ALPN).connected()
		},
	}
}

// How a session ends on one side is how it ends on the other, all that was on
// its way is delivered first, and the log says once who it was, and how.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	last := bytes.Repeat([]byte("last words "), 100_000)
	goodbye := pgwire.Encode(&pgproto3.Terminate{})
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
		{"client terminates and the server is faster", func(p *peer) { p.expect(goodbye) },
			func(p *peer) { p.send(goodbye); p.expectEnd() }, "client", "terminated"},
		{"client terminates upon a FATAL", func(p *peer) { p.send(fatal); p.expect(goodbye) },
			func(p *peer) { p.expect(fatal); p.send(goodbye); p.expectEnd() }, "server", "closed"},
		{"client terminates behind an answer, in pieces", func(p *peer) { p.send(last, pgwire.Encode(ready)); p.expect(goodbye) },
			func(p *peer) {
				p.expect(last)
				p.expect(pgwire.Encode(ready))
				p.send(goodbye[:2])
				p.send(goodbye[2:])
				p.expectEnd()
			}, "client", "terminated"},
		{"client half-closes and reads on", func(p *peer) { p.expect(last); p.expectEnd(); p.send(last) },
			func(p *peer) { p.send(last); halfClose(p.Conn); halfClose(p.raw); p.expect(last); p.expectEnd() }, "client", "closed"},
		{"client crashes in TLS", func(p *peer) { p.expect(last); p.expectEnd() },
			func(p *peer) { p.send(last); p.raw.Close() }, "client", "closed"},
		{"client resets", func(p *peer) { p.expect(last); p.send(goodbye); p.expectReset() },
			func(p *peer) { p.send(last); p.expect(goodbye); p.reset() }, "client", "reset"},
		{"client resets in the middle of a result", func(p *peer) { p.send(bytes.Repeat(last, 30)) },
			func(p *peer) { p.expect(last); p.reset() }, "client", "reset"},
		{"server closes", func(p *peer) { p.send(last) },
			func(p *peer) { p.expect(last); p.expectEnd() }, "server", "closed"},
		{"server says FATAL", func(p *peer) { p.send(fatal) },
			func(p *peer) { p.expect(fatal); p.expectEnd() }, "server", "closed"},
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
			}, "server", ""}, // closed with bytes unread is a reset, so that is how it may be
		{"server closes without TLS's close_notify", func(p *peer) { p.send(last); p.raw.Close() },
			func(p *peer) { p.expect(last); p.expectEnd() }, "server", "closed"},
		{"server resets", func(p *peer) { p.expect(last[:10]); p.reset() },
			func(p *peer) { p.send(last[:10]); p.expectReset() }, "server", "reset"},
		{"server resets behind its last words", func(p *peer) { p.send(last); p.expect(goodbye); p.reset() },
			func(p *peer) { p.expect(last); p.send(goodbye); p.expectReset() }, "server", "reset"},
	} {
		ca := newAuthority(t)
		for way, connect := range ways(ca) {
			t.Run(test.name+", "+way, func(t *testing.T) {
				t.Parallel()
				served := make(chan struct{})
				s := startServer(t, ca.issue(t, serverName, time.Time{}), nil, func(p *peer) { defer close(served); p.logIn(); test.server(p) })
				var logs *observer.ObservedLogs
				p, address := start(t, ca, s, func(p *Proxy) { withClientTLS(t, ca)(p); logs = observed(p) })
				test.client(connect(t, address))
				<-served
				until(t, "the session's end", func() bool { return logs.FilterMessage("session ended").Len() > 0 })
				ends := logs.FilterMessage("session ended").All()
				if len(ends) != 1 || ends[0].ContextMap()["by"] != test.by || test.how != "" && ends[0].ContextMap()["how"] != test.how {
					t.Errorf("log says %v, want once that the %s has %s", ends, test.by, test.how)
				}
				until(t, "nothing left", func() bool {
					p.sessions.mu.Lock()
					defer p.sessions.mu.Unlock()
					return len(p.sessions.servers) == 0 && p.cancels.Len() == 0
				})
			})
		}
	}
}

// reset ends a connection with a RST.
func (p *peer) reset() {
	_ = p.raw.(*net.TCPConn).SetLinger(0)
	p.raw.Close()
}

// halfClose closes the writing side of a connection.
func halfClose(conn net.Conn) {
	_ = conn.(interface{ CloseWrite() error }).CloseWrite()
}

// expectReset reads until the connection breaks, and takes nothing else for an
// end where it can be had exactly.
func (p *peer) expectReset() {
	p.t.Helper()
	n, err := io.Copy(io.Discard, p)
	if n != 0 || runtime.GOOS == "linux" && !errors.Is(err, syscall.ECONNRESET) {
		p.t.Errorf("read %d bytes that nobody sent, %v, want a reset", n, err)
	}
}
