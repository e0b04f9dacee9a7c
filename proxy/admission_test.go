package proxy

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

func TestAllowed(t *testing.T) {
	p := &Proxy{AllowFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}}
	for address, want := range map[string]bool{
		"10.1.2.3": true, "11.0.0.1": false, "::ffff:10.1.2.3": true, "fe80::1": true, "127.0.0.1": false, "::1": false,
	} {
		if got := p.allowsAddress(&net.TCPAddr{IP: net.ParseIP(address), Zone: "eth0"}); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if !p.allowsAddress(&net.UnixAddr{Name: "/run/x"}) || !(&Proxy{}).allowsAddress(&net.TCPAddr{IP: net.ParseIP("192.0.2.1")}) {
		t.Error("those are allowed who are not asked about")
	}
}

// Proxies share a Limit; clients who are turned away or leave take no room.
func TestLimit(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	limit := &ConnLimit{Max: 2, Hint: "raise it"}
	share := func(p *Proxy) { p.Limit = limit }
	first, at := start(t, ca, s, share)
	_, elsewhere := start(t, ca, s, share)
	a, b := connected(t, at), connected(t, elsewhere)
	for range 3 {
		c := dial(t, at)
		c.send(ordinaryStartup)
		if e := c.fatal(); e.Code != "53300" || e.Hint == "" {
			t.Errorf("a third client is told %+v", e)
		}
	}
	if c := first.Counts(); c.Results[stats.Rejected] != 3 || c.Failures[stats.FailureKind{SQLSTATE: "53300", Reason: pgwire.TooManySessions}] != 3 || c.Sessions != 1 {
		t.Errorf("counts %+v", c)
	}
	a.Close()
	b.Close()
	until(t, "room", func() bool { return len(limit.taken) == 0 })
	connected(t, at)
}

// Who has read that the session is over finds room for the next.
func TestRoomForTheNext(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); _, _ = io.Copy(io.Discard, p) })
	_, address := start(t, ca, s, func(p *Proxy) { p.Limit = &ConnLimit{Max: 1} })
	for range 50 {
		client := connected(t, address)
		_ = client.raw.(*net.TCPConn).CloseWrite()
		client.expectEnd()
	}
}

// Strangers are told, or closed if there are many, and keep nobody out who may connect.
func TestStrangers(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	p, address := start(t, ca, s, func(p *Proxy) { p.AllowFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")} })
	told := dial(t, address)
	told.send(pgwire.Encode(&pgproto3.SSLRequest{}))
	told.expect([]byte{'N'})
	told.send(ordinaryStartup)
	if e := told.fatal(); e.Code != "28000" || !strings.HasSuffix(e.Message, "clients from 127.0.0.1 may not connect") || e.Hint == "" {
		t.Errorf("a stranger is told %+v", e)
	}
	cancels := dial(t, address)
	cancels.send(pgwire.Encode(&pgproto3.CancelRequest{ProcessID: key.ProcessID, SecretKey: key.SecretKey}))
	cancels.expectEnd()
	until(t, "the request to be counted", func() bool { return p.cancels.Stats().Rejected == 1 })
	if f := p.Failures(); len(f) != 1 || f[0].Times != 1 || p.Counts().Results[stats.Rejected] != 1 {
		t.Errorf("failures %+v", f)
	}
	for range 2 * maxRejecting {
		dial(t, address)
	}
	until(t, "some to be closed at once", func() bool { return p.Counts().Results[stats.Rejected] > 1 })
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(limit))
	(&peer{Conn: conn, t: t, raw: conn}).connected().Close()
	if f := p.Failures(); len(f) != 1 {
		t.Errorf("strangers are %d failures on the list", len(f))
	}
}
