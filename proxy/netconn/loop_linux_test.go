package netconn

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/conntest"
)

// copyAll returns a Readable that copies from src to dst.
func copyAll(dst, src *Conn) func() (more bool) {
	return func() (more bool) {
		var b [1000]byte
		for {
			n, err := src.Read(b[:])
			if _, writeErr := dst.Write(b[:n]); writeErr != nil {
				return false
			}
			switch {
			case errors.Is(err, ErrWouldBlock), err == nil && dst.Socket().Congested():
				return true
			case err != nil:
				return false
			}
		}
	}
}

// useLoops makes n loops the only ones until the end of the test.
func useLoops(t *testing.T, n int) []*loop {
	t.Helper()
	loops.Lock()
	defer loops.Unlock()
	before := loops.all
	loops.all = nil
	for range n {
		if _, err := newLoop(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		loops.Lock()
		defer loops.Unlock()
		loops.all = before
	})
	return loops.all
}

// A session moves between loops at any time, and its bytes arrive in their order.
func TestMove(t *testing.T) {
	two := useLoops(t, 2)
	ours, client := conntest.TCPPair(t)
	theirs, server := conntest.TCPPair(t)
	a, b := newConn(ours, false), newConn(theirs, false)
	done := make(chan struct{})
	copyUp, handled := copyAll(b, a), 0
	moving := func() (more bool) {
		on := a.socket.loop.loop
		if handled++; handled%3 == 0 && on != nil {
			on.target, on.half = two[0], false
			if on == two[0] {
				on.target = two[1]
			}
			on.round++
		}
		return copyUp()
	}
	if !Watch(Watched{a, moving}, Watched{b, copyAll(a, b)}, func() { close(done) }) {
		t.Fatal("no event loop")
	}
	data := make([]byte, 4<<20)
	_, _ = rand.Read(data)
	go func() { _, _ = client.Write(data) }()
	go func() { _, _ = io.Copy(server, server) }()
	echoed := make([]byte, len(data))
	if _, err := io.ReadFull(client, echoed); err != nil || !bytes.Equal(echoed, data) {
		t.Errorf("%v, or other bytes than those that were sent", err)
	}
	client.Close()
	<-done
	a.Close()
	b.Close()
}

// No event is missed while the loop falls asleep and wakes up.
func TestRoundTrips(t *testing.T) {
	const sessions, rounds = 8, 8_000
	useLoops(t, 1)
	var clients sync.WaitGroup
	for range sessions {
		ours, client := conntest.TCPPair(t)
		theirs, server := conntest.TCPPair(t)
		a, b := newConn(ours, false), newConn(theirs, false)
		done := make(chan struct{})
		if !Watch(Watched{a, copyAll(b, a)}, Watched{b, copyAll(a, b)}, func() { close(done) }) {
			t.Fatal("no event loop")
		}
		go func() { _, _ = io.Copy(server, server) }()
		clients.Go(func() {
			var message [10]byte
			for range rounds {
				_, err := client.Write(message[:])
				if _, readErr := io.ReadFull(client, message[:]); err != nil || readErr != nil {
					t.Error(errors.Join(err, readErr))
					break
				}
			}
			client.Close()
			<-done
			a.Close()
			b.Close()
		})
	}
	clients.Wait()
}

// A relay may end with its first event.
func TestWatchEnded(t *testing.T) {
	for range 300 {
		ours, client := conntest.TCPPair(t)
		theirs, server := conntest.TCPPair(t)
		client.Close()
		server.Close()
		a, b := newConn(ours, false), newConn(theirs, false)
		done := make(chan struct{})
		if !Watch(Watched{a, copyAll(b, a)}, Watched{b, copyAll(a, b)}, func() { close(done) }) {
			t.Fatal("no event loop")
		}
		<-done
		a.Close()
		b.Close()
	}
}

func TestChooseTarget(t *testing.T) {
	now := time.Now()
	for name, test := range map[string]struct {
		loads      []float64
		own        int     // whose sessions move
		processors float64 // that the process has
		target     int     // -1: none
		half       bool
	}{
		"one loop with room":             {[]float64{0.8, 0}, 0, 0.8, -1, false},
		"a full one":                     {[]float64{1, 0}, 0, 1, 1, true},
		"a full one beside a busy one":   {[]float64{1, 0.8}, 0, 1.8, -1, false},
		"a full one, not the first":      {[]float64{0.2, 1}, 1, 1.2, 0, true},
		"without processors":             {[]float64{1, 0}, 0, 0.6, -1, false},
		"two that have room in one":      {[]float64{0.3, 0.2}, 1, 0.5, 0, false},
		"two that do not":                {[]float64{0.5, 0.2}, 1, 0.7, -1, false},
		"the first of them stays":        {[]float64{0.3, 0.2}, 0, 0.5, -1, false},
		"a third with room in the first": {[]float64{0.4, 0.6, 0.1}, 2, 1.1, 0, false},
	} {
		all := useLoops(t, len(test.loads))
		for i, load := range test.loads {
			all[i].load.Store(&loopLoad{share: load, at: now})
		}
		if runtime.GOMAXPROCS(0) > len(all) { // otherwise another loop would start
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(len(all)))
		}
		target, half := all[test.own].chooseTarget(now, test.processors)
		var want *loop
		if test.target >= 0 {
			want = all[test.target]
		}
		if target != want || half != test.half {
			t.Errorf("%s: another target, or half is %v", name, half)
		}
	}
}
