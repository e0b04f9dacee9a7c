package proxy

import (
	"bytes"
	"fmt"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap/zaptest/observer"

	"github.com/iamproxy/iamproxy/proxy/cancel"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// keyOf is what a client was given.
func keyOf(t *testing.T, address string) (client *peer, given pgproto3.BackendKeyData) {
	t.Helper()
	client = dial(t, address)
	client.send(ordinaryStartup)
	for m := client.message(); m != nil && m[0] != pgwire.ReadyForQuery; m = client.message() {
		if m[0] == pgwire.BackendKeyData {
			_ = given.Decode(m[pgwire.HeaderSize:])
		}
	}
	return client, given
}

func cancelWith(t *testing.T, address string, given pgproto3.BackendKeyData) {
	t.Helper()
	client := dial(t, address)
	client.send(&pgproto3.CancelRequest{ProcessID: given.ProcessID, SecretKey: given.SecretKey})
	client.expectEnd()
}

// A client's key is good while its session lasts, and the server is told its own.
func TestKeysOfPooledConnections(t *testing.T) {
	t.Parallel()
	b := &backend{keys: []*pgproto3.BackendKeyData{{ProcessID: 4711, SecretKey: bytes.Repeat([]byte{7}, 32)}}}
	p, address, _ := b.pooled(t, nil)
	seen := map[string]bool{string(b.keys[0].SecretKey): true}
	var last pgproto3.BackendKeyData
	for i := range 3 {
		client, given := keyOf(t, address)
		if given.ProcessID != 4711 || len(given.SecretKey) != 32 || seen[string(given.SecretKey)] {
			t.Errorf("client %d was given %+v", i, given)
		}
		seen[string(given.SecretKey)] = true
		if i > 0 {
			cancelWith(t, address, last)
		}
		cancelWith(t, address, *b.keys[0])
		if len(b.requests) != i {
			t.Errorf("%d requests reached the server with keys that are not good any more", len(b.requests)-i)
		}
		cancelWith(t, address, given)
		if len(b.requests) != i+1 || b.requests[i].ProcessID != 4711 || !bytes.Equal(b.requests[i].SecretKey, b.keys[0].SecretKey) {
			t.Fatalf("the server was told %+v", b.requests)
		}
		last = given
		client.takeLeave()
		untilIdle(t, p, 1)
		cancelWith(t, address, given)
	}
	if want := (cancel.Stats{Delivered: 3, Rejected: 2 + 3 + 3}); p.cancels.Stats() != want {
		t.Errorf("counted %+v, want %+v", p.cancels.Stats(), want)
	}
	if len(b.said) != 1 {
		t.Errorf("%d connections", len(b.said))
	}
}

// A server that is still at a cancel request when the session ends may hit whoever has
// the connection next: nobody gets it.
func TestCancelOnItsWayAtTheEnd(t *testing.T) {
	t.Parallel()
	for _, done := range []bool{false, true} {
		t.Run(fmt.Sprint("done is ", done), func(t *testing.T) {
			t.Parallel()
			b := &backend{keys: []*pgproto3.BackendKeyData{key}}
			arrived, goOn := make(chan struct{}), make(chan struct{})
			ca, s := good(t, func(p *peer) {
				recorded := &startupRecorder{Conn: p.Conn}
				b.serve(&peer{t: p.t, Conn: recorded, raw: p.raw})
				if isCancel(recorded.first) {
					close(arrived)
					<-goOn
				}
			})
			var logs *observer.ObservedLogs
			p, address := start(t, ca, s, func(p *Proxy) { p.PoolSize = 1; logs = observed(p) })
			client, given := keyOf(t, address)
			request := dial(t, address)
			request.send(&pgproto3.CancelRequest{ProcessID: given.ProcessID, SecretKey: given.SecretKey})
			<-arrived
			if done {
				close(goOn)
				request.expectEnd()
				client.takeLeave()
				untilIdle(t, p, 1)
				return
			}
			client.takeLeave()
			if reason := reasonOfEnd(t, logs, 1); reason != "a cancel request was on its way" {
				t.Errorf("not kept because %q", reason)
			}
			close(goOn)
			request.expectEnd()
			untilIdle(t, p, 0)
		})
	}
}

// startupRecorder keeps the first of what is read.
type startupRecorder struct {
	net.Conn
	first []byte
}

func (r *startupRecorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	if len(r.first) < 16 {
		r.first = append(r.first, b[:n]...)
	}
	return n, err
}
