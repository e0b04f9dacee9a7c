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

// The next client has the connection of one that took leave, in order.
func TestPooledConnection(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	for name, connect := range ways(ca) {
		t.Run(name, func(t *testing.T) {
			b := &backend{keys: []*pgproto3.BackendKeyData{key}}
			p, address, logs := b.pooled(t, withClientTLS(t, ca))
			for i := range 3 {
				client := connect(t, address)
				client.query(fmt.Sprint("question ", i))
				client.takeLeave()
				untilIdle(t, p, 1)
			}
			b.expect(t, fmt.Sprintf("question 0, %s, question 1, %[1]s, question 2, %[1]s", afterwards))
			until(t, "the sessions' ends", func() bool { return logs.FilterMessage("session ended").Len() == 3 })
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

// Only a startup packet with the same in it leads to it.
func TestPooledByParameters(t *testing.T) {
	t.Parallel()
	b := &backend{}
	p, address, _ := b.pooled(t, nil)
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
			client.expect(slices.Concat(pgwire.Encode(okay), pgwire.Encode(ready)))
			client.query(fmt.Sprint(i))
			client.takeLeave()
			until(t, "the reset", func() bool { c := p.pool.Stats(); return c.InUse == 0 && c.Resetting == 0 })
		}
	}
	// There is room for four: when the fifth came, the first had to go.
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.said) != 10 {
		t.Errorf("%d connections: %q", len(b.said), b.said)
	}
	for i, said := range b.said {
		if said[0] != fmt.Sprint(i%5) || strings.Count(strings.Join(said, ","), "DISCARD ALL") != 1 {
			t.Errorf("connection %d heard %q", i, said)
		}
	}
}

// Settings that change while a session goes on, while it is reset and while nobody has
// it are the next client's from the start.
func TestStatusesOfPooledConnections(t *testing.T) {
	t.Parallel()
	status := func(name, value string) *pgproto3.ParameterStatus {
		return &pgproto3.ParameterStatus{Name: name, Value: value}
	}
	b := &backend{statuses: []*pgproto3.ParameterStatus{status("a", "1"), status("b", "1"), status("c", "1"), status("d", "1")}}
	b.answer = func(p *peer, said string) bool {
		switch said {
		case "question":
			p.send(status("a", "2"), status("b", "2"), ready)
		case "DISCARD ALL":
			p.send(status("b", "1"), &pgproto3.NoticeResponse{}, status("c", "2"), ready, status("new", "1"))
		default:
			return false
		}
		return true
	}
	p, address, _ := b.pooled(t, nil)
	client := connected(t, address)
	client.send(&pgproto3.Query{String: "question"})
	client.expect(slices.Concat(pgwire.Encode(status("a", "2")), pgwire.Encode(status("b", "2")), pgwire.Encode(ready)))
	client.takeLeave()
	untilIdle(t, p, 1)
	b.peers[0].send(status("d", "2"), &pgproto3.NotificationResponse{Channel: "nobody's"})
	b.untilArrived(t)
	next := dial(t, address)
	next.send(ordinaryStartup)
	next.expect(slices.Concat(pgwire.Encode(okay), pgwire.Encode(status("a", "2")), pgwire.Encode(status("b", "1")), pgwire.Encode(status("c", "2")),
		pgwire.Encode(status("d", "2")), pgwire.Encode(status("new", "1")), pgwire.Encode(ready)))
	next.takeLeave()
}

// Replication is not for the next.
func TestReplicationIsNotPooled(t *testing.T) {
	t.Parallel()
	for value, pooled := range map[string]bool{"true": false, "database": false, "DATABASE": false, "on": false, "false": true, "no": true, "": true, "fals": false} {
		b := &backend{}
		p, address, logs := b.pooled(t, nil)
		client := dial(t, address)
		client.send(startupPacket(3<<16, "user", "alice", "replication", value))
		client.expect(slices.Concat(pgwire.Encode(okay), pgwire.Encode(ready)))
		client.send(goodbye)
		client.Close()
		reasonOfEnd(t, logs, 1)
		if kept := p.pool.Stats().Idle == 1; kept != pooled {
			t.Errorf("replication=%q: kept is %v", value, kept)
		}
	}
}

// Where a session has to take writes, a connection does not go to the next client when
// its server takes none any more.
func TestPooledConnectionsOfFormerWriters(t *testing.T) {
	t.Parallel()
	status := func(value string) *pgproto3.ParameterStatus {
		return &pgproto3.ParameterStatus{Name: upstream.InHotStandby, Value: value}
	}
	b := &backend{statuses: []*pgproto3.ParameterStatus{status("off"), {Name: upstream.ReadOnlyDefault, Value: "off"}}}
	p, address, _ := b.pooled(t, func(p *Proxy) { p.Writer = true })
	connected(t, address).takeLeave()
	untilIdle(t, p, 1)
	connected(t, address).takeLeave()
	untilIdle(t, p, 1)
	b.peers[0].send(status("on"))
	b.untilArrived(t)
	connected(t, address).takeLeave()
	untilIdle(t, p, 1)
	b.expect(t, afterwards+", "+afterwards+"; "+afterwards)
}

// Servers before PostgreSQL 14 report nothing, and are asked each time.
func TestPooledConnectionsOfOldWriters(t *testing.T) {
	t.Parallel()
	b := &backend{}
	readOnly := "f"
	b.answer = func(p *peer, said string) bool {
		if !strings.Contains(said, "pg_is_in_recovery") {
			return false
		}
		p.send(&pgproto3.ParameterStatus{Name: "a", Value: readOnly}, &pgproto3.DataRow{Values: [][]byte{[]byte(readOnly)}}, &pgproto3.CommandComplete{}, ready)
		return true
	}
	p, address, _ := b.pooled(t, func(p *Proxy) { p.Writer = true })
	for range 2 {
		client := dial(t, address)
		client.send(ordinaryStartup)
		client.expect(slices.Concat(pgwire.Encode(okay), pgwire.Encode(&pgproto3.ParameterStatus{Name: "a", Value: "f"}), pgwire.Encode(ready)))
		client.takeLeave()
		untilIdle(t, p, 1)
	}
	if got := b.all(); strings.Count(got, "pg_is_in_recovery") != 2 || len(b.said) != 1 {
		t.Errorf("the server heard %q", got)
	}
}

// A proxy that drains keeps none, and makes none ready for a next client.
func TestShutdownWithIdleConnections(t *testing.T) {
	t.Parallel()
	b := &backend{}
	p, address, _ := b.pooled(t, nil)
	client := connected(t, address)
	connected(t, address).takeLeave()
	until(t, "one idle connection", func() bool { return p.pool.Stats() == pool.Stats{Idle: 1, InUse: 1} })
	cut := make(chan int)
	go func() { cut <- p.Shutdown(context.Background()) }()
	until(t, "the idle one to end", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.ended == 1 })
	client.query("still here")
	client.takeLeave()
	if n := <-cut; n != 0 {
		t.Errorf("%d cut", n)
	}
	until(t, "the other to end", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.ended == 2 })
	if got := b.all(); !strings.Contains(got, afterwards+", X") || !strings.Contains(got, "still here, X") {
		t.Errorf("the server heard %q", got)
	}
}

// Many clients at once, each of which would find an order that another has disturbed.
func TestManyPooledSessions(t *testing.T) {
	b := &backend{}
	var disturbed sync.Map
	b.answer = func(p *peer, said string) bool {
		switch said {
		case "disturb":
			if _, already := disturbed.LoadOrStore(p.raw, true); already {
				b.mu.Lock()
				defer b.mu.Unlock()
				t.Error("a client has found what another left")
			}
		case "DISCARD ALL":
			disturbed.Delete(p.raw)
		}
		return false
	}
	p, address, _ := b.pooled(t, nil)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 25 {
				client := connected(t, address)
				client.query("disturb")
				client.takeLeave()
			}
		})
	}
	all.Wait()
	until(t, "all to be reset", func() bool { c := p.pool.Stats(); return c.InUse == 0 && c.Resetting == 0 })
	if got := p.pool.Stats(); got.Idle == 0 || got.Idle > 4 {
		t.Errorf("counted %+v", got)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t.Logf("%d connections for 200 sessions", len(b.said))
}

// What a server says that is thrown away is not told to a client of another one.
func TestWordsOfAnotherServer(t *testing.T) {
	t.Parallel()
	var standby atomic.Pointer[peer]
	b := &backend{statuses: []*pgproto3.ParameterStatus{{Name: "TimeZone", Value: "UTC"}}}
	b.answer = func(p *peer, said string) bool {
		if !strings.Contains(said, "pg_is_in_recovery") {
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
	until(t, "the first is idle", func() bool { return p.pool.Stats().Idle == 1 })
	two.takeLeave()
	untilIdle(t, p, 2)
	standby.Store(b.peers[1]) // idle last, and so the first to be tried
	client := dial(t, address)
	client.send(ordinaryStartup)
	var told []byte
	for m := client.message(); m[0] != pgwire.ReadyForQuery; m = client.message() {
		told = append(told, m...)
	}
	if strings.Contains(string(told), "STALE") || !strings.Contains(string(told), "UTC") {
		t.Errorf("the client was told %q", told)
	}
}
