package proxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/pool"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

// A connection is reused after Terminate, with a reset in between.
func TestPooledConnection(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	for name, connect := range clientTransports(ca) {
		t.Run(name, func(t *testing.T) {
			b := &backend{keys: []*pgproto3.BackendKeyData{key}}
			p, address, logs := b.startPooled(t, withClientTLS(t, ca))
			for i := range 3 {
				client := connect(t, address)
				client.query(fmt.Sprint("query ", i))
				client.closeClean()
				waitIdle(t, p, 1)
			}
			b.expect(t, fmt.Sprintf("query 0, %s, query 1, %[1]s, query 2, %[1]s", resetQueries))
			eventually(t, "the ends of the sessions", func() bool { return logs.FilterMessage("session ended").Len() == 3 })
			for i, e := range logs.FilterMessage("session opened").All() {
				if pooled := e.ContextMap()["pooled"] == true; pooled != (i > 0) {
					t.Errorf("session %d: pooled is %v", i, pooled)
				}
			}
			for _, e := range logs.FilterMessage("session ended").All() {
				if f := e.ContextMap(); f["kept"] != true || f["how"] != "terminated" || f["by"] != "client" {
					t.Errorf("logged %v", f)
				}
			}
		})
	}
}

// A connection is reused only for an equal startup packet.
func TestPooledByStartupParameters(t *testing.T) {
	t.Parallel()
	b := &backend{}
	p, address, _ := b.startPooled(t, nil)
	packets := [][]byte{
		ordinaryStartup,
		startupPacket(3<<16, "user", "bob", "database", "mydb"),
		startupPacket(3<<16, "user", "alice", "database", "other"),
		startupPacket(3<<16, "user", "alice", "database", "mydb", "application_name", "a"),
		startupPacket(3<<16|2, "user", "alice", "database", "mydb"),
	}
	for range 2 {
		for i, packet := range packets {
			client := dial(t, address)
			client.send(packet)
			client.expect(slices.Concat(pgwire.Encode(authOK), pgwire.Encode(ready)))
			client.query(fmt.Sprint(i))
			client.closeClean()
			eventually(t, "the reset", func() bool { c := p.pool.Stats(); return c.InUse == 0 && c.Resetting == 0 })
		}
	}
	// The pool keeps four: the fifth connection replaces the first.
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.received) != 10 {
		t.Errorf("%d connections: %q", len(b.received), b.received)
	}
	for i, requests := range b.received {
		if requests[0] != fmt.Sprint(i%5) || strings.Count(strings.Join(requests, ","), "DISCARD ALL") != 1 {
			t.Errorf("connection %d received %q", i, requests)
		}
	}
}

// The startup reply has the current settings: those that changed during the session, during
// the reset, and while the connection was idle.
func TestPooledParameterStatus(t *testing.T) {
	t.Parallel()
	status := func(name, value string) *pgproto3.ParameterStatus {
		return &pgproto3.ParameterStatus{Name: name, Value: value}
	}
	b := &backend{statuses: []*pgproto3.ParameterStatus{status("a", "1"), status("b", "1"), status("c", "1"), status("d", "1")}}
	b.respond = func(p *peer, request string) bool {
		switch request {
		case "query":
			p.send(status("a", "2"), status("b", "2"), ready)
		case "DISCARD ALL":
			p.send(status("b", "1"), &pgproto3.NoticeResponse{}, status("c", "2"), ready, status("new", "1"))
		default:
			return false
		}
		return true
	}
	p, address, _ := b.startPooled(t, nil)
	client := openSession(t, address)
	client.send(&pgproto3.Query{String: "query"})
	client.expect(slices.Concat(pgwire.Encode(status("a", "2")), pgwire.Encode(status("b", "2")), pgwire.Encode(ready)))
	client.closeClean()
	waitIdle(t, p, 1)
	b.peers[0].send(status("d", "2"), &pgproto3.NotificationResponse{Channel: "unused"})
	b.waitUnread(t)
	next := dial(t, address)
	next.send(ordinaryStartup)
	next.expect(slices.Concat(pgwire.Encode(authOK), pgwire.Encode(status("a", "2")), pgwire.Encode(status("b", "1")), pgwire.Encode(status("c", "2")),
		pgwire.Encode(status("d", "2")), pgwire.Encode(status("new", "1")), pgwire.Encode(ready)))
	next.closeClean()
}

// Replication connections are not reused.
func TestReplicationNotPooled(t *testing.T) {
	t.Parallel()
	for value, pooled := range map[string]bool{"true": false, "database": false, "DATABASE": false, "on": false, "false": true, "no": true, "": true, "fals": false} {
		b := &backend{}
		p, address, logs := b.startPooled(t, nil)
		client := dial(t, address)
		client.send(startupPacket(3<<16, "user", "alice", "replication", value))
		client.expect(slices.Concat(pgwire.Encode(authOK), pgwire.Encode(ready)))
		client.send(terminate)
		client.Close()
		discardReason(t, logs, 1)
		if kept := p.pool.Stats().Idle == 1; kept != pooled {
			t.Errorf("replication=%q: kept is %v", value, kept)
		}
	}
}

// With Writer, a connection is not reused once its server is a standby.
func TestPooledConnectionAfterFailover(t *testing.T) {
	t.Parallel()
	status := func(value string) *pgproto3.ParameterStatus {
		return &pgproto3.ParameterStatus{Name: upstream.InHotStandby, Value: value}
	}
	b := &backend{statuses: []*pgproto3.ParameterStatus{status("off"), {Name: upstream.ReadOnlyDefault, Value: "off"}}}
	p, address, _ := b.startPooled(t, func(p *Proxy) { p.RequireWritable = true })
	openSession(t, address).closeClean()
	waitIdle(t, p, 1)
	openSession(t, address).closeClean()
	waitIdle(t, p, 1)
	b.peers[0].send(status("on"))
	b.waitUnread(t)
	openSession(t, address).closeClean()
	waitIdle(t, p, 1)
	b.expect(t, resetQueries+", "+resetQueries+"; "+resetQueries)
}

// Servers before PostgreSQL 14 do not report in_hot_standby, and are queried at each reuse.
func TestPooledConnectionBeforePostgreSQL14(t *testing.T) {
	t.Parallel()
	b := &backend{}
	readOnly := "f"
	b.respond = func(p *peer, request string) bool {
		if !strings.Contains(request, "pg_is_in_recovery") {
			return false
		}
		p.send(&pgproto3.ParameterStatus{Name: "a", Value: readOnly}, &pgproto3.DataRow{Values: [][]byte{[]byte(readOnly)}}, &pgproto3.CommandComplete{}, ready)
		return true
	}
	p, address, _ := b.startPooled(t, func(p *Proxy) { p.RequireWritable = true })
	for range 2 {
		client := dial(t, address)
		client.send(ordinaryStartup)
		client.expect(slices.Concat(pgwire.Encode(authOK), pgwire.Encode(&pgproto3.ParameterStatus{Name: "a", Value: "f"}), pgwire.Encode(ready)))
		client.closeClean()
		waitIdle(t, p, 1)
	}
	if got := b.transcript(); strings.Count(got, "pg_is_in_recovery") != 2 || len(b.received) != 1 {
		t.Errorf("the server received %q", got)
	}
}

// A proxy that drains closes idle connections, and resets none.
func TestPooledShutdown(t *testing.T) {
	t.Parallel()
	b := &backend{}
	p, address, _ := b.startPooled(t, nil)
	client := openSession(t, address)
	openSession(t, address).closeClean()
	eventually(t, "one idle connection", func() bool { return p.pool.Stats() == pool.Stats{Idle: 1, InUse: 1} })
	ended := make(chan int)
	go func() { ended <- p.Shutdown(context.Background()) }()
	eventually(t, "the end of the idle connection", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.ended == 1 })
	client.query("still here")
	client.closeClean()
	if n := <-ended; n != 0 {
		t.Errorf("%d sessions ended", n)
	}
	eventually(t, "the end of the other connection", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.ended == 2 })
	if got := b.transcript(); !strings.Contains(got, resetQueries+", X") || !strings.Contains(got, "still here, X") {
		t.Errorf("the server received %q", got)
	}
}

// No client gets the state of another one's session.
func TestManyPooledSessions(t *testing.T) {
	b := &backend{}
	var changed sync.Map // connections whose session has state
	b.respond = func(p *peer, request string) bool {
		switch request {
		case "change":
			if _, already := changed.LoadOrStore(p.raw, true); already {
				b.mu.Lock()
				defer b.mu.Unlock()
				t.Error("a client got the state of another session")
			}
		case "DISCARD ALL":
			changed.Delete(p.raw)
		}
		return false
	}
	p, address, _ := b.startPooled(t, nil)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 25 {
				client := openSession(t, address)
				client.query("change")
				client.closeClean()
			}
		})
	}
	all.Wait()
	eventually(t, "the resets", func() bool { c := p.pool.Stats(); return c.InUse == 0 && c.Resetting == 0 })
	if got := p.pool.Stats(); got.Idle == 0 || got.Idle > 4 {
		t.Errorf("counted %+v", got)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t.Logf("%d connections for 200 sessions", len(b.received))
}

// Settings reported by a discarded connection are not sent to the client of another one.
func TestPooledParameterStatusOfDiscardedConnection(t *testing.T) {
	t.Parallel()
	var standby atomic.Pointer[peer]
	b := &backend{statuses: []*pgproto3.ParameterStatus{{Name: "TimeZone", Value: "UTC"}}}
	b.respond = func(p *peer, request string) bool {
		if !strings.Contains(request, "pg_is_in_recovery") {
			return false
		}
		readOnly, before := "f", []any{}
		if standby.Load() == p {
			readOnly, before = "t", []any{&pgproto3.ParameterStatus{Name: "TimeZone", Value: "STALE"}}
		}
		p.send(append(before, &pgproto3.DataRow{Values: [][]byte{[]byte(readOnly)}}, &pgproto3.CommandComplete{}, ready)...)
		return true
	}
	p, address, _ := b.startPooled(t, func(p *Proxy) { p.RequireWritable = true })
	one, two := openSession(t, address), openSession(t, address)
	one.closeClean()
	eventually(t, "the first to be idle", func() bool { return p.pool.Stats().Idle == 1 })
	two.closeClean()
	waitIdle(t, p, 2)
	standby.Store(b.peers[1]) // became idle last, so it is validated first
	client := dial(t, address)
	client.send(ordinaryStartup)
	var reply []byte
	for m := client.message(); m[0] != pgwire.ReadyForQuery; m = client.message() {
		reply = append(reply, m...)
	}
	if strings.Contains(string(reply), "STALE") || !strings.Contains(string(reply), "UTC") {
		t.Errorf("startup reply %q", reply)
	}
}
