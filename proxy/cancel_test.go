package proxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/iamproxy/iamproxy/proxy/cancel"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// A CancelRequest is forwarded over TLS to the address that its session is connected to. A
// request with an unknown key is not forwarded.
func TestCancel(t *testing.T) {
	t.Parallel()
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
			if isCancel(packet) {
				requests <- request{at, packet}
				return
			}
			p.requestToken()
			p.send(authOK, &pgproto3.BackendKeyData{ProcessID: 7, SecretKey: bytes.Repeat([]byte{byte(at)}, 32)}, ready)
			p.echo()
		})
	}
	first, second := instance(1), instance(2)
	// A reader endpoint: one name, another instance at each connection.
	var dials, dialed atomic.Int32
	_, address := startProxy(t, ca, first, func(p *Proxy) {
		p.Upstream.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			dialed.Add(1)
			if address == p.Upstream.Via && dials.Add(1) == 2 {
				address = second.addr()
			}
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		}
	})
	a, b := openSession(t, address), openSession(t, address)

	cancel := func(secret byte, size int) {
		client := dial(t, address)
		if secret == 2 { // after an SSLRequest
			client.send(pgwire.Encode(&pgproto3.SSLRequest{}))
			client.expect([]byte{'N'})
		}
		client.send(&pgproto3.CancelRequest{ProcessID: 7, SecretKey: bytes.Repeat([]byte{secret}, size)})
		client.expectEnd()
	}
	for _, at := range []int{2, 1} {
		cancel(byte(at), 32)
		// The client's connection is closed when the server has received the request, not before.
		select {
		case got := <-requests:
			want := pgwire.Encode(&pgproto3.CancelRequest{ProcessID: 7, SecretKey: bytes.Repeat([]byte{byte(at)}, 32)})
			if got.at != at || !bytes.Equal(got.raw, want) {
				t.Errorf("cancel for instance %d: instance %d got %x", at, got.at, got.raw)
			}
		default:
			t.Errorf("cancel for instance %d was not delivered when the client's connection was closed", at)
		}
	}
	before := dialed.Load()
	cancel(3, 32)
	cancel(1, 31)
	cancel(1, 4)
	cancel(1, 0)
	short := dial(t, address)
	short.send([]byte("\x00\x00\x00\x09\x04\xd2\x16\x2e\x07"))
	short.expectEnd()
	if dialed.Load() != before || len(requests) != 0 {
		t.Error("a forged key was forwarded")
	}
	for _, client := range []*peer{a, b} {
		client.send([]byte("unharmed"))
		client.expect([]byte("unharmed"))
		client.Close()
	}
}

// TLS of the client and of the server are independent. The client gets a close_notify.
func TestCancelInsideTLS(t *testing.T) {
	t.Parallel()
	ca, s, gate, requests := cancelServer(t)
	close(gate.open)
	_, address := startProxy(t, ca, s, withClientTLS(t, ca))
	openSession(t, address)
	for _, direct := range []bool{false, true} {
		client := dial(t, address)
		if !direct {
			client.send(sslRequest)
			client.expect([]byte{'S'})
		}
		recorded := &readRecorder{Conn: client.raw}
		// In TLS 1.2 the type of a record is not encrypted.
		client.Conn = tls.Client(recorded, &tls.Config{ServerName: "localhost", RootCAs: ca.pool(), NextProtos: []string{pgwire.ALPN}, MaxVersion: tls.VersionTLS12})
		client.send(cancelKey)
		client.expectEnd()
		if got := <-requests; !bytes.Equal(got, pgwire.Encode(cancelKey)) {
			t.Errorf("the server got %x", got)
		}
		if last := lastRecord(recorded.first()); last != 0x15 {
			t.Errorf("the last record is of type %#x, want an alert", last)
		}
	}
}

// lastRecord returns the type of the last of several TLS records.
func lastRecord(records []byte) (kind byte) {
	for len(records) >= 5 {
		kind = records[0]
		records = records[min(len(records), 5+int(binary.BigEndian.Uint16(records[3:]))):]
	}
	return kind
}

func TestCancelOfAnEndedSession(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	p, address := startProxy(t, ca, s, nil)
	openSession(t, address).Close()
	eventually(t, "the end of the session", func() bool { return p.cancels.Len() == 0 })
	client := dial(t, address)
	client.send(&pgproto3.CancelRequest{ProcessID: key.ProcessID, SecretKey: key.SecretKey})
	client.expectEnd()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unencrypted) > 1 {
		t.Error("a stale key was forwarded")
	}
}

// gate holds connections at the server, before TLS.
type gate struct {
	held chan struct{} // receives one value for each connection
	open chan struct{} // closed to continue them
}

func (g *gate) hold(conn net.Conn) bool {
	g.held <- struct{}{}
	<-g.open
	_, err := conn.Write([]byte{'S'})
	return err == nil
}

// cancelServer returns a server that accepts one session and holds all further connections
// at the gate. The channel receives the CancelRequests that arrive.
func cancelServer(t *testing.T) (authority, *server, *gate, chan []byte) {
	ca := newAuthority(t)
	g := &gate{held: make(chan struct{}, 100), open: make(chan struct{})}
	var conns atomic.Int32
	requests := make(chan []byte, 100)
	s := startServer(t, ca.issue(t, serverName, time.Time{}), func(conn net.Conn) bool {
		if conns.Add(1) > 1 {
			return g.hold(conn)
		}
		_, err := conn.Write([]byte{'S'})
		return err == nil
	}, func(p *peer) {
		packet := p.startup()
		if isCancel(packet) {
			requests <- packet
			return
		}
		p.requestToken()
		p.send(authOK, key, ready)
		p.echo()
	})
	return ca, s, g, requests
}

var cancelKey = &pgproto3.CancelRequest{ProcessID: key.ProcessID, SecretKey: key.SecretKey}

// A request made before an earlier one for the same session was sent is served by that one.
// A later request is forwarded by itself.
func TestRepeatedCancel(t *testing.T) {
	t.Parallel()
	ca, s, gate, requests := cancelServer(t)
	p, address := startProxy(t, ca, s, nil)
	session := openSession(t, address)
	first := dial(t, address)
	first.send(cancelKey)
	<-gate.held
	var repeats []*peer
	for range 50 {
		repeat := dial(t, address)
		repeat.send(cancelKey)
		repeats = append(repeats, repeat)
	}
	eventually(t, "the repeats", func() bool { return p.cancels.Stats().Repeated == 50 })
	close(gate.open)
	for _, client := range append(repeats, first) {
		client.expectEnd()
	}
	if len(requests) != 1 {
		t.Errorf("%d requests went to the server", len(requests))
	}
	later := dial(t, address)
	later.send(cancelKey)
	later.expectEnd()
	if len(requests) != 2 || p.cancels.Stats() != (cancel.Stats{Delivered: 2, Repeated: 50}) {
		t.Errorf("%d requests went to the server, counted %+v", len(requests), p.cancels.Stats())
	}
	session.send([]byte("unharmed"))
	session.expect([]byte("unharmed"))
}

// A session can end while its CancelRequest is being delivered. Its server process has ended,
// and another may have its number.
func TestSessionEndsDuringCancel(t *testing.T) {
	t.Parallel()
	ca, s, gate, requests := cancelServer(t)
	var logs *observer.ObservedLogs
	p, address := startProxy(t, ca, s, func(p *Proxy) { logs = observeLogs(p) })
	session := openSession(t, address)
	late := dial(t, address)
	late.send(cancelKey)
	<-gate.held
	session.Close()
	eventually(t, "the end of the session", func() bool { return logs.FilterMessage("session ended").Len() == 1 })
	eventually(t, "its key to be removed", func() bool { return p.cancels.Len() == 0 })
	close(gate.open)
	late.expectEnd()
	if len(requests) != 0 || p.cancels.Stats() != (cancel.Stats{Rejected: 1}) {
		t.Errorf("%d requests went to the server, counted %+v", len(requests), p.cancels.Stats())
	}
}

// A session has ended when its server has closed the connection, even if the client has not.
func TestCancelAfterServerClosed(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin() })
	p, address := startProxy(t, ca, s, nil)
	session := openSession(t, address)
	session.expectEnd()
	client := dial(t, address)
	client.send(cancelKey)
	client.expectEnd()
	if p.cancels.Stats() != (cancel.Stats{Rejected: 1}) {
		t.Errorf("counted %+v", p.cancels.Stats())
	}
}

// Sessions on two servers can have the same key. A request could cancel the wrong one's query.
func TestAmbiguousCancel(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	p, address := startProxy(t, ca, s, nil)
	a, b := openSession(t, address), openSession(t, address)
	client := dial(t, address)
	client.send(cancelKey)
	client.expectEnd()
	if p.cancels.Stats() != (cancel.Stats{Rejected: 1}) {
		t.Errorf("counted %+v", p.cancels.Stats())
	}
	for _, session := range []*peer{a, b} {
		session.send([]byte("unharmed"))
		session.expect([]byte("unharmed"))
	}
}

// A key that no client can send in a CancelRequest is passed on, but not registered.
func TestKeysOfInvalidLength(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 4, 5, 260, 261, 10_000} {
		k := append([]byte{'K', 0, 0, byte((4 + size) >> 8), byte(4 + size)}, bytes.Repeat([]byte{1}, size)...)
		ca, s := trustedServer(t, func(p *peer) { p.startup(); p.requestToken(); p.send(authOK, k, ready); p.echo() })
		p, address := startProxy(t, ca, s, nil)
		client := dial(t, address)
		client.send(ordinaryStartup)
		client.expect(slices.Concat(pgwire.Encode(authOK), k, pgwire.Encode(ready)))
		if registered := p.cancels.Len() == 1; registered != (size > 4 && size <= 260) {
			t.Errorf("a key of %d bytes was registered: %v", size, registered)
		}
	}
}

func TestCancelFails(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	var logs *observer.ObservedLogs
	var dials atomic.Int32
	p, address := startProxy(t, ca, s, func(p *Proxy) {
		logs = observeLogs(p)
		p.Upstream.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if dials.Add(1) > 1 {
				return nil, errors.New("gone")
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
	})
	openSession(t, address)
	client := dial(t, address)
	client.send(cancelKey)
	client.expectEnd()
	if p.cancels.Stats() != (cancel.Stats{Failed: 1}) || logs.FilterMessage("cancel request not delivered").Len() != 1 {
		t.Errorf("counted %+v", p.cancels.Stats())
	}
}

// A thousand CancelRequests race the ends of their sessions, while process IDs are
// reused at once. The server gets at most one request for each key, with the right number.
func TestCancelRace(t *testing.T) {
	const pids = 8
	free := make(chan uint32, pids)
	for pid := range uint32(pids) {
		free <- pid
	}
	var issued, arrived sync.Map // by secret: the process ID
	ca, s := trustedServer(t, func(p *peer) {
		packet := p.startup()
		if isCancel(packet) {
			pid, secret := binary.BigEndian.Uint32(packet[8:]), string(packet[12:])
			if _, again := arrived.LoadOrStore(secret, pid); again {
				t.Error("a cancel request arrived twice")
			}
			if of, ok := issued.Load(secret); !ok || of != pid {
				t.Errorf("process %d was sent a key of %v", pid, of)
			}
			return
		}
		p.requestToken()
		pid, secret := <-free, make([]byte, 32)
		_, _ = rand.Read(secret)
		issued.Store(string(secret), pid)
		p.send(authOK, &pgproto3.BackendKeyData{ProcessID: pid, SecretKey: secret}, ready)
		_, _ = io.Copy(io.Discard, p)
		free <- pid
	})
	p, address := startProxy(t, ca, s, func(p *Proxy) { p.Log = zap.NewNop() })
	var all sync.WaitGroup
	slots := make(chan struct{}, pids)
	for range 1000 {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			session := dial(t, address)
			session.send(ordinaryStartup)
			var k pgproto3.BackendKeyData
			for m := session.message(); m != nil && m[0] != pgwire.ReadyForQuery; m = session.message() {
				if m[0] == pgwire.BackendKeyData {
					_ = k.Decode(m[5:])
				}
			}
			all.Go(func() {
				client := dial(t, address)
				client.send(&pgproto3.CancelRequest{ProcessID: k.ProcessID, SecretKey: k.SecretKey})
				client.expectEnd()
				client.Close()
			})
			session.Close()
		})
	}
	all.Wait()
	counts, delivered := p.cancels.Stats(), 0
	arrived.Range(func(any, any) bool { delivered++; return true })
	t.Logf("counted %+v", counts)
	if counts.Delivered+counts.Rejected != 1000 || counts.Delivered != int64(delivered) {
		t.Errorf("counted %+v of 1000, %d arrived", counts, delivered)
	}
}
