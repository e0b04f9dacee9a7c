package proxy

import (
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

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
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ca := newAuthority(t)
			b := &backend{}
			p, address, _ := b.pooled(t, withClientTLS(t, ca))
			client := dial(t, address)
			client.send(encode(&pgproto3.SSLRequest{}))
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

// What a server says that is thrown away is not told to a client of another one.
func TestWordsOfAnotherServer(t *testing.T) {
	var standby atomic.Pointer[peer]
	b := &backend{statuses: []*pgproto3.ParameterStatus{{Name: "TimeZone", Value: "UTC"}}}
	b.answer = func(p *peer, said string) bool {
		if said != readOnlyQuery {
			return false
		}
		answer, before := "f", []any{}
		if standby.Load() == p {
			answer, before = "t", []any{&pgproto3.ParameterStatus{Name: "TimeZone", Value: "STALE"}}
		}
		p.send(append(before, &pgproto3.DataRow{Values: [][]byte{[]byte(answer)}}, &pgproto3.CommandComplete{}, ready)...)
		return true
	}
	p, address, _ := b.pooled(t, func(p *Proxy) { p.Writer = true })
	one, two := connected(t, address), connected(t, address)
	one.takeLeave()
	until(t, "the first is idle", func() bool { return p.PoolCounts().Idle == 1 })
	two.takeLeave()
	untilIdle(t, p, 2)
	standby.Store(b.peers[1]) // idle last, and so the first to be tried
	client := dial(t, address)
	client.send(ordinaryStartup)
	var told []byte
	for m := client.message(); m[0] != readyForQuery; m = client.message() {
		told = append(told, m...)
	}
	if strings.Contains(string(told), "STALE") || !strings.Contains(string(told), "UTC") {
		t.Errorf("the client was told %q", told)
	}
}

// Of two values the client has the last.
func TestGreetingWithTwoValues(t *testing.T) {
	status := func(value string) []byte { return encode(&pgproto3.ParameterStatus{Name: "TimeZone", Value: value}) }
	g, ok := newGreeting(slices.Concat(encode(okay), status("A"), status("B"), encode(ready)))
	if !ok || g.value("TimeZone") != "B" {
		t.Fatalf("of A and B it has %q", g.value("TimeZone"))
	}
	g.note(message{status("A")})
	if g.value("TimeZone") != "A" {
		t.Errorf("after another A it has %q", g.value("TimeZone"))
	}
}
