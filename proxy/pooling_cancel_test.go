package proxy

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap/zaptest/observer"

	"github.com/iamproxy/iamproxy/proxy/cancel"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// openSessionWithKey returns a client with an open session, and its cancel key.
func openSessionWithKey(t *testing.T, address string) (client *peer, key pgproto3.BackendKeyData) {
	t.Helper()
	client = dial(t, address)
	client.send(ordinaryStartup)
	for m := client.message(); m != nil && m[0] != pgwire.ReadyForQuery; m = client.message() {
		if m[0] == pgwire.BackendKeyData {
			_ = key.Decode(m[pgwire.HeaderSize:])
		}
	}
	return client, key
}

// sendCancelRequest sends a CancelRequest and waits for the end of its connection.
func sendCancelRequest(t *testing.T, address string, key pgproto3.BackendKeyData) {
	t.Helper()
	client := dial(t, address)
	client.send(&pgproto3.CancelRequest{ProcessID: key.ProcessID, SecretKey: key.SecretKey})
	client.expectEnd()
}

// Each session has its own cancel key, valid while it lasts. The server receives its own key.
func TestPooledCancelKeys(t *testing.T) {
	t.Parallel()
	b := &backend{keys: []*pgproto3.BackendKeyData{{ProcessID: 4711, SecretKey: bytes.Repeat([]byte{7}, 32)}}}
	p, address, _ := b.startPooled(t, nil)
	seen := map[string]bool{string(b.keys[0].SecretKey): true}
	var last pgproto3.BackendKeyData
	for i := range 3 {
		client, given := openSessionWithKey(t, address)
		if given.ProcessID != 4711 || len(given.SecretKey) != 32 || seen[string(given.SecretKey)] {
			t.Errorf("client %d has the key %+v", i, given)
		}
		seen[string(given.SecretKey)] = true
		if i > 0 {
			sendCancelRequest(t, address, last)
		}
		sendCancelRequest(t, address, *b.keys[0])
		if len(b.cancelRequests) != i {
			t.Errorf("%d requests with invalid keys reached the server", len(b.cancelRequests)-i)
		}
		sendCancelRequest(t, address, given)
		if len(b.cancelRequests) != i+1 || b.cancelRequests[i].ProcessID != 4711 || !bytes.Equal(b.cancelRequests[i].SecretKey, b.keys[0].SecretKey) {
			t.Fatalf("the server received %+v", b.cancelRequests)
		}
		last = given
		client.closeClean()
		waitIdle(t, p, 1)
		sendCancelRequest(t, address, given)
	}
	if want := (cancel.Stats{Delivered: 3, Rejected: 2 + 3 + 3}); p.cancels.Stats() != want {
		t.Errorf("counted %+v, want %+v", p.cancels.Stats(), want)
	}
	if len(b.received) != 1 {
		t.Errorf("%d connections", len(b.received))
	}
}

// A connection is not reused if a CancelRequest for its session may still be processed: it
// could cancel a query of the next client.
func TestPooledCancelInFlight(t *testing.T) {
	t.Parallel()
	for _, processed := range []bool{false, true} {
		t.Run(fmt.Sprint("processed=", processed), func(t *testing.T) {
			t.Parallel()
			b := &backend{keys: []*pgproto3.BackendKeyData{key}}
			arrived, proceed := make(chan struct{}), make(chan struct{})
			ca, s := trustedServer(t, func(p *peer) {
				recorded := &readRecorder{Conn: p.Conn}
				b.serve(&peer{t: p.t, Conn: recorded, raw: p.raw})
				if isCancel(recorded.first()) {
					close(arrived)
					<-proceed
				}
			})
			var logs *observer.ObservedLogs
			p, address := startProxy(t, ca, s, func(p *Proxy) { p.MaxIdleConns = 1; logs = observeLogs(p) })
			client, given := openSessionWithKey(t, address)
			request := dial(t, address)
			request.send(&pgproto3.CancelRequest{ProcessID: given.ProcessID, SecretKey: given.SecretKey})
			<-arrived
			if processed {
				close(proceed)
				request.expectEnd()
				client.closeClean()
				waitIdle(t, p, 1)
				return
			}
			client.closeClean()
			if reason := discardReason(t, logs, 1); reason != "a cancel request was on its way" {
				t.Errorf("not kept because %q", reason)
			}
			close(proceed)
			request.expectEnd()
			waitIdle(t, p, 0)
		})
	}
}
