package proxy

import (
	"crypto/tls"
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

func TestAllowsAddress(t *testing.T) {
	p := &Proxy{AllowFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}}
	for address, want := range map[string]bool{
		"10.1.2.3": true, "11.0.0.1": false, "::ffff:10.1.2.3": true, "fe80::1": true, "127.0.0.1": false, "::1": false,
	} {
		if got := p.allowsAddress(&net.TCPAddr{IP: net.ParseIP(address), Zone: "eth0"}); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if !p.allowsAddress(&net.UnixAddr{Name: "/run/x"}) || !(&Proxy{}).allowsAddress(&net.TCPAddr{IP: net.ParseIP("192.0.2.1")}) {
		t.Error("rejected a client that AllowFrom does not apply to")
	}
}

// Proxies share a ConnLimit. Rejected and ended sessions do not count.
func TestConnLimit(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	limit := &ConnLimit{Max: 2, Hint: "raise it"}
	share := func(p *Proxy) { p.Limit = limit }
	first, at := startProxy(t, ca, s, share)
	_, elsewhere := startProxy(t, ca, s, share)
	a, b := openSession(t, at), openSession(t, elsewhere)
	for range 3 {
		c := dial(t, at)
		c.send(ordinaryStartup)
		if e := c.expectError(); e.Code != pgwire.TooManyConnections || e.Hint == "" {
			t.Errorf("got %+v", e)
		}
	}
	if c := first.Counts(); c.Results[stats.Rejected] != 3 || c.Failures[stats.FailureKind{SQLSTATE: "53300", Reason: pgwire.TooManySessions}] != 3 || c.Sessions != 1 {
		t.Errorf("counts %+v", c)
	}
	a.Close()
	b.Close()
	eventually(t, "a free place", func() bool { return len(limit.taken) == 0 })
	openSession(t, at)
}

// A client that has read the end of its session can connect again at once.
func TestConnLimitReleasedBeforeClose(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); _, _ = io.Copy(io.Discard, p) })
	_, address := startProxy(t, ca, s, func(p *Proxy) { p.Limit = &ConnLimit{Max: 1} })
	for range 50 {
		client := openSession(t, address)
		_ = client.raw.(*net.TCPConn).CloseWrite()
		client.expectEnd()
	}
}

// A client whose server has ended the session can connect again before it closes its connection. What it
// still sends to the server is counted.
func TestConnLimitReleasedBeforeClientCloses(t *testing.T) {
	t.Parallel()
	received := make(chan int64, 2)
	ca, s := trustedServer(t, func(p *peer) {
		p.acceptLogin()
		_ = p.Conn.(*tls.Conn).CloseWrite()
		n, _ := io.Copy(io.Discard, p)
		received <- n
	})
	p, address := startProxy(t, ca, s, func(p *Proxy) { p.Limit = &ConnLimit{Max: 1} })
	clients := [2]*peer{}
	for i := range clients {
		clients[i] = openSession(t, address)
		clients[i].expectEnd()
	}
	for _, client := range clients {
		_, _ = client.Write(terminate) // fails if the proxy has stopped waiting
		client.Close()
	}
	eventually(t, "the ends of the sessions", func() bool { return p.Counts().Sessions == 0 })
	if up, want := p.Counts().Up, <-received+<-received; up != want {
		t.Errorf("%d bytes to the server were counted, want %d", up, want)
	}
}

// Unauthorized clients are sent an error. If there are many, their connections are closed.
// Authorized clients can connect meanwhile.
func TestUnauthorizedClients(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	p, address := startProxy(t, ca, s, func(p *Proxy) {
		p.AllowFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
		p.MaxPending = 4 // half as many are rejected at once
	})
	rejected := dial(t, address)
	rejected.send(pgwire.Encode(&pgproto3.SSLRequest{}))
	rejected.expect([]byte{'N'})
	rejected.send(ordinaryStartup)
	if e := rejected.expectError(); e.Code != pgwire.InvalidAuthorization || !strings.Contains(e.Message, "127.0.0.1") || e.Hint == "" {
		t.Errorf("got %+v", e)
	}
	p.expectReason(t, pgwire.ClientAddressNotAllowed)
	request := dial(t, address)
	request.send(cancelKey)
	request.expectEnd()
	eventually(t, "the request to be counted", func() bool { return p.cancels.Stats().Rejected == 1 })
	if f := p.Failures(); len(f) != 1 || f[0].Times != 1 || p.Counts().Results[stats.Rejected] != 1 {
		t.Errorf("failures %+v", f)
	}
	eventually(t, "some to be closed at once", func() bool {
		dial(t, address)
		return p.Counts().Results[stats.Rejected] > 1
	})
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(testTimeout))
	(&peer{Conn: conn, t: t, raw: conn}).openSession().Close()
	if f := p.Failures(); len(f) != 1 {
		t.Errorf("unauthorized clients are %d failures, want one", len(f))
	}
}
