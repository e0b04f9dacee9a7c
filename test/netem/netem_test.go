//go:build linux

package netem

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const limit = 30 * time.Second

func newLink(t *testing.T) *Link {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	l, err := New(1)
	switch {
	case errors.Is(err, ErrNotPermitted):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		goleak.VerifyNone(t, leaks)
	})
	return l
}

// pair is a connection between the hosts.
func pair(t *testing.T, l *Link) (there, here net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(l.Here(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if there, err = l.Dial(context.Background(), "tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if here, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, conn := range []net.Conn{there, here} {
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(limit))
	}
	return there, here
}

// answer reads a word, and fails if it is not this one.
func answer(t *testing.T, conn net.Conn, word string) {
	t.Helper()
	got := make([]byte, len(word))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != word {
		t.Fatalf("got %q, %v, want %q", got, err, word)
	}
}

func send(t *testing.T, conn net.Conn, word string) {
	t.Helper()
	if _, err := io.WriteString(conn, word); err != nil {
		t.Fatal(err)
	}
}

func TestClear(t *testing.T) {
	l := newLink(t)
	there, here := pair(t, l)
	if host, _, _ := net.SplitHostPort(here.RemoteAddr().String()); host != l.There() {
		t.Errorf("it comes from %s, not %s", host, l.There())
	}
	send(t, there, "ping")
	answer(t, here, "ping")
	send(t, here, "pong")
	answer(t, there, "pong")
}

func TestDelay(t *testing.T) {
	l := newLink(t)
	there, here := pair(t, l)
	const delay = 100 * time.Millisecond
	l.SetConditions(Conditions{Delay: delay})
	began := time.Now()
	send(t, there, "ping")
	answer(t, here, "ping")
	send(t, here, "pong")
	answer(t, there, "pong")
	if took := time.Since(began); took < 2*delay {
		t.Errorf("there and back took %v", took)
	}
}

// TCP retransmits lost packets, and some are lost.
func TestLoss(t *testing.T) {
	l := newLink(t)
	there, here := pair(t, l)
	l.SetConditions(Conditions{Loss: .05})
	data := make([]byte, 2<<20)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(data)
	go func() {
		_, _ = there.Write(data)
		there.Close()
	}()
	sum := sha256.New()
	if _, err := io.Copy(sum, here); err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(data); !bytes.Equal(sum.Sum(nil), want[:]) {
		t.Error("something else arrived than was sent")
	}
	if l.up.lost.Load() == 0 {
		t.Error("nothing was lost on the way")
	}
}

// Data sent into a cut arrive after it ends, and not before.
func TestCut(t *testing.T) {
	for name, conditions := range map[string]Conditions{"up": {CutUp: true}, "both ways": {CutUp: true, CutDown: true}, "down": {CutDown: true}} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t)
			there, here := pair(t, l)
			l.SetConditions(conditions)
			send(t, there, "ping")
			if conditions.CutUp {
				_ = here.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
				if n, err := here.Read(make([]byte, 1)); err == nil {
					t.Errorf("%d bytes came through a cut", n)
				}
				_ = here.SetReadDeadline(time.Now().Add(limit))
				l.SetConditions(Conditions{})
			}
			answer(t, here, "ping")
			send(t, here, "pong")
			if !conditions.CutUp {
				_ = there.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
				if n, err := there.Read(make([]byte, 1)); err == nil {
					t.Errorf("%d bytes came through a cut", n)
				}
				_ = there.SetReadDeadline(time.Now().Add(limit))
			}
			l.SetConditions(Conditions{})
			answer(t, there, "pong")
		})
	}
}

func TestReset(t *testing.T) {
	l := newLink(t)
	there, here := pair(t, l)
	l.SetConditions(Conditions{Reset: 1})
	send(t, there, "ping")
	for name, conn := range map[string]net.Conn{"there": there, "here": here} {
		if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %d bytes, %v, want a reset", name, n, err)
		}
	}
}

// Only TCP packets with data are reset, and nothing is read beyond a packet.
func FuzzResets(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 41, 0, 0, 0, 0, 64, 6, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0x50, 0x10, 0, 0, 0, 0, 0, 0, 'x'})
	f.Fuzz(func(t *testing.T, packet []byte) {
		back, on, ok := resets(packet)
		if !ok {
			return
		}
		for _, reset := range [][]byte{back, on} {
			if header := int(reset[0]&15) * 4; checksum(reset[:header]) != 0 || reset[header+tcpFlags] != flagRST|flagACK {
				t.Errorf("% x is no reset", reset)
			}
		}
	})
}
