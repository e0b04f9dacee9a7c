package netconn

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// A connection keeps its addresses, even if it no longer exists when its relay ends.
func TestAddressesAfterWatch(t *testing.T) {
	ours, client := conntest.TCPPair(t)
	theirs, _ := conntest.TCPPair(t)
	a, b := newConn(ours, false), newConn(theirs, false)
	defer a.Close()
	defer b.Close()
	done := make(chan struct{})
	if !Watch(Watched{a, copyAll(b, a)}, Watched{b, copyAll(a, b)}, func() { close(done) }) {
		t.Fatal("no event loop")
	}
	_ = client.SetLinger(0)
	client.Close()
	<-done
	if got := a.RemoteAddr(); got == nil || got.String() != client.LocalAddr().String() {
		t.Errorf("RemoteAddr() = %v, want %v", got, client.LocalAddr())
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

// A wake-up that announces no event does not end the sleep: the next event could be missed.
func TestAlarmWithoutEvent(t *testing.T) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(epoll) }()
	alarm, err := newAlarm(epoll)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := conntest.TCPPair(t)
	newConn(ours, false).Socket().Control(func(fd int) {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN})
	})
	if err != nil {
		t.Fatal(err)
	}
	l := &loop{epoll: epoll}
	_ = alarm.Control(func(fd uintptr) {
		for range 2 { // sets the alarm, and wakes up
			if l.onAlarm(fd) {
				t.Error("the sleep ends without an event")
			}
		}
		theirs.Close()
		for deadline := time.Now().Add(limit); !l.onAlarm(fd); {
			if time.Now().After(deadline) {
				t.Fatal("the sleep does not end with an event")
			}
		}
	})
}

// The number of processors may have become less than that of loops.
func TestNoLoopBeyondProcessors(t *testing.T) {
	all := useLoops(t, 2)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	now := time.Now()
	for _, l := range all {
		l.load.Store(&loopLoad{share: 1, at: now})
	}
	if target, _ := all[0].chooseTarget(now, 2); target != nil {
		t.Error("another loop for one processor")
	}
}

// Connections that no loop can have stay as they are.
func TestWatchFails(t *testing.T) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &files) }()
	for name, prepare := range map[string]func(b *Conn){
		"one is closed": func(b *Conn) { b.Close() },
		"epoll fails":   func(*Conn) { loops.all = []*loop{{epoll: -1, sockets: make(map[int32]*Socket)}} },
		"one descriptor is left": func(b *Conn) {
			var next int
			b.Socket().Control(func(fd int) { next, _ = unix.Dup(fd) })
			_ = unix.Close(next)
			_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(next) + 1, Max: files.Max})
		},
	} {
		t.Run(name, func(t *testing.T) {
			useLoops(t, 1)
			ours, client := conntest.TCPPair(t)
			theirs, _ := conntest.TCPPair(t)
			a, b := newConn(ours, false), newConn(theirs, false)
			defer a.Close()
			defer b.Close()
			prepare(b)
			watched := Watch(Watched{a, copyAll(b, a)}, Watched{b, copyAll(a, b)}, func() { t.Error("done was called") })
			_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &files)
			if watched {
				t.Fatal("a loop has the connections")
			}
			go func() { _, _ = client.Write([]byte("on")) }()
			if got, err := receive(a, 2); err != nil || string(got) != "on" {
				t.Errorf("received %q, %v", got, err)
			}
		})
	}
}

// A connection may be closed while Watch or its end is at work, with an alert of TLS.
func TestCloseDuringWatch(t *testing.T) {
	useLoops(t, 1)
	for i := range 50 {
		a, client := connPair(t, false, tls.VersionTLS13)
		b, server := connPair(t, false, tls.VersionTLS12)
		done, closed := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(closed)
			if i%2 == 0 {
				runtime.Gosched()
			}
			a.Close()
		}()
		if Watch(Watched{a, copyAll(b, a)}, Watched{b, copyAll(a, b)}, func() { close(done) }) {
			server.tcp.Close()
			<-done
		}
		<-closed
		if _, err := io.ReadAll(client.tcp); err != nil {
			t.Errorf("the client reads %v, not the end", err)
		}
		b.Close()
	}
}

// Both directions are congested at once, in the middle of TLS records.
func TestWatchTLS(t *testing.T) {
	data := make([]byte, 16<<20)
	_, _ = rand.Read(data)
	eachTLS(t, func(t *testing.T, version uint16) {
		useLoops(t, 1)
		a, client := connPair(t, false, version)
		b, server := connPair(t, false, tls.VersionTLS13)
		done := make(chan struct{})
		if !Watch(Watched{a, copyAll(b, a)}, Watched{b, copyAll(a, b)}, func() { close(done) }) {
			t.Fatal("no event loop")
		}
		var peers sync.WaitGroup
		for _, p := range []*peer{client, server} {
			peers.Go(func() { _, _ = p.Write(data) })
		}
		until(t, func() bool { return a.Socket().Congested() && b.Socket().Congested() })
		for _, p := range []*peer{client, server} {
			peers.Go(func() {
				got := make([]byte, len(data))
				if _, err := io.ReadFull(p, got); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%v, or other bytes than those that were sent", err)
				}
			})
		}
		peers.Wait()
		client.Close()
		<-done
		a.Close()
		b.Close()
	})
}
