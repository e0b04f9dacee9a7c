package cancel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
)

const address = "192.0.2.1:5432"

// newKey returns a key as a server sends it.
func newKey(pid uint32, secret byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, pid), bytes.Repeat([]byte{secret}, 32)...)
}

func TestClaimFindsSessionByKey(t *testing.T) {
	var r Registry
	a := r.Add(newKey(7, 1), newKey(7, 101), address)
	b := r.Add(newKey(7, 2), newKey(7, 102), "192.0.2.2:5432") // same process ID on another server
	c := r.Add(newKey(8, 1), newKey(8, 101), address)
	for _, test := range []struct {
		name string
		key  []byte
		want *Target
	}{
		{"first of two with one process ID", newKey(7, 1), a},
		{"second of two with one process ID", newKey(7, 2), b},
		{"other process ID", newKey(8, 1), c},
		{"unknown secret", newKey(7, 3), nil},
		{"unknown process ID", newKey(9, 1), nil},
		{"server's key", a.ServerKey, nil},
		{"shortened secret", newKey(7, 1)[:35], nil},
		{"no secret", newKey(7, 1)[:4], nil},
		{"no process ID", []byte{7}, nil},
		{"empty", nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := r.Stats().Rejected
			got, delivered := r.Claim(test.key)
			if got != test.want || (delivered != nil) != (test.want != nil) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if rejected := r.Stats().Rejected - before; (rejected == 1) != (test.want == nil) {
				t.Errorf("%d counted as rejected", rejected)
			}
		})
	}
}

// A request for one of two sessions with the same key could cancel the other one's query.
func TestClaimRejectsAmbiguousKey(t *testing.T) {
	var r Registry
	r.Add(newKey(7, 1), newKey(7, 1), address)
	other := r.Add(newKey(7, 1), newKey(7, 1), "192.0.2.2:5432")
	if target, delivered := r.Claim(newKey(7, 1)); target != nil || delivered != nil {
		t.Errorf("got the session at %s", target.Address)
	}
	r.Remove(other)
	if target, _ := r.Claim(newKey(7, 1)); target == nil {
		t.Error("the remaining session was not found")
	}
}

func TestClaimRejectsRemovedSession(t *testing.T) {
	var r Registry
	r.Add(newKey(7, 2), newKey(7, 2), address)
	ended := r.Add(newKey(7, 1), newKey(7, 1), address)
	if pending := r.Remove(ended); pending {
		t.Error("a request is pending that was never made")
	}
	if target, _ := r.Claim(newKey(7, 1)); target != nil {
		t.Error("the removed session was found")
	}
	if n := r.Len(); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
}

// A request made before an earlier one was released is served by that one; a request made
// later is delivered by itself.
func TestRepeatedRequests(t *testing.T) {
	var r Registry
	r.Add(newKey(7, 1), newKey(7, 1), address)
	first, delivered := r.Claim(newKey(7, 1))
	for range 3 {
		if target, same := r.Claim(newKey(7, 1)); target != nil || same != delivered {
			t.Fatal("a repeated request was not served by the first")
		}
	}
	if !r.Release(first, true) {
		t.Fatal("the first request is not to be sent")
	}
	second, next := r.Claim(newKey(7, 1))
	if second != first || next == delivered {
		t.Error("a request made after Release was served by the one released")
	}
	r.Sent(nil)
	if got, want := r.Stats(), (Stats{Delivered: 1, Repeated: 3}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

func TestRelease(t *testing.T) {
	for _, test := range []struct {
		name             string
		connected, ended bool
		send             bool
		want             Stats
	}{
		{"open session", true, false, true, Stats{}},
		{"ended session", true, true, false, Stats{Rejected: 1}},
		{"server not reached", false, false, false, Stats{Failed: 1}},
		{"server not reached, ended session", false, true, false, Stats{Failed: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var r Registry
			r.Add(newKey(7, 1), newKey(7, 1), address)
			target, _ := r.Claim(newKey(7, 1))
			if test.ended {
				r.Remove(target)
			}
			if send := r.Release(target, test.connected); send != test.send {
				t.Errorf("send is %v", send)
			}
			if got := r.Stats(); got != test.want {
				t.Errorf("counted %+v, want %+v", got, test.want)
			}
		})
	}
}

// The server can act on a request from its release until it has processed it.
func TestPendingRequests(t *testing.T) {
	for _, test := range []struct {
		name               string
		connected          bool
		written, processed int
		pending            bool
	}{
		{"server not reached", false, 0, 0, false},
		{"not written yet", true, 0, 0, true},
		{"written", true, 1, 0, true},
		{"processed", true, 1, 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var r Registry
			r.Add(newKey(7, 1), newKey(7, 1), address)
			target, _ := r.Claim(newKey(7, 1))
			r.Release(target, test.connected)
			for range test.written {
				r.Sent(nil)
			}
			for range test.processed {
				r.Processed(target)
			}
			if pending := r.Remove(target); pending != test.pending {
				t.Errorf("pending is %v", pending)
			}
		})
	}
}

func TestStats(t *testing.T) {
	var r Registry
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			r.Reject()
			r.Sent(nil)
			r.Sent(errors.New("broken pipe"))
		})
	}
	all.Wait()
	if got, want := r.Stats(), (Stats{Delivered: 100, Rejected: 100, Failed: 100}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// FuzzCancelRequest checks that a key finds the session it was sent to, and that no other
// key finds any.
func FuzzCancelRequest(f *testing.F) {
	short := []byte{0, 0, 0x12, 0x67, 1, 2, 3, 4}
	long := append([]byte{0, 0, 0x12, 0x67}, bytes.Repeat([]byte{7}, 32)...)
	for _, key := range [][]byte{nil, short, long, short[:4], append(short[:4:4], bytes.Repeat([]byte{1}, 256)...)} {
		f.Add(key, short)
		f.Add(key, long)
	}
	var r Registry
	f.Fuzz(func(t *testing.T, key, requested []byte) {
		known := len(key) > pidSize
		if known {
			defer r.Remove(r.Add(key, key, address))
		}
		found, _ := r.Claim(requested)
		if want := known && bytes.Equal(key, requested); want != (found != nil) {
			t.Fatalf("key %x, requested %x: found is %v", key, requested, found != nil)
		}
	})
}
