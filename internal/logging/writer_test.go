package logging

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sink is a pipe whose reader can be stopped, or a disk with limited space.
type sink struct {
	mu      sync.Mutex
	stopped sync.Mutex // held while the reader does not read
	space   int        // bytes that can be written; negative: unlimited
	writes  int
	text    bytes.Buffer
}

func (s *sink) Write(b []byte) (int, error) {
	s.stopped.Lock()
	defer s.stopped.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.space < 0 || len(b) <= s.space {
		s.space -= len(b)
		return s.text.Write(b)
	}
	n, _ := s.text.Write(b[:s.space])
	s.space = 0
	return n, errors.New("no space left on device")
}

func (s *sink) setSpace(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.space = n
}

func (s *sink) read() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *sink) countWrites() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes
}

// newTestWriter returns a writer that reports dropped lines in a line.
func newTestWriter(s *sink) (w *writer) {
	w = newWriter(s, func(lines int) { fmt.Fprintf(w, "dropped %d\n", lines) })
	return w
}

func waitFor(t *testing.T, what string, s *sink, condition func(text string) bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(s.read()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s: %q", what, s.read())
		}
	}
}

func TestCloseWritesQueue(t *testing.T) {
	s := &sink{space: -1}
	w := newTestWriter(s)
	var want strings.Builder
	for n := range 1000 {
		fmt.Fprintf(w, "line %d\n", n)
		fmt.Fprintf(&want, "line %d\n", n)
	}
	w.close()
	if s.read() != want.String() {
		t.Errorf("%d bytes were written, not %d", len(s.read()), want.Len())
	}
}

// A line is written at once. Lines that follow soon share a write.
func TestLinesShareWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{space: -1}
		w := newTestWriter(s)
		defer w.close()
		write := func(lines, wantWrites int) {
			t.Helper()
			for range lines {
				fmt.Fprintln(w, "line")
			}
			synctest.Wait()
			if s.countWrites() != wantWrites {
				t.Errorf("%d writes, want %d", s.countWrites(), wantWrites)
			}
		}
		write(1, 1)
		write(100, 1)
		time.Sleep(writeInterval)
		write(0, 2)
		time.Sleep(writeInterval)
		write(1, 3)
	})
}

// Lines that are queued during a write do not change the lines that are being written.
func TestWriteDuringWrite(t *testing.T) {
	var got strings.Builder
	w := &writer{queued: make(chan struct{}, 1)}
	w.out = writeFunc(func(b []byte) (int, error) {
		if got.Len() == len("one\n") {
			fmt.Fprintln(w, "three")
		}
		return got.Write(b)
	})
	fmt.Fprintln(w, "one")
	w.writeQueue()
	w.writeQueue() // the queue is empty
	fmt.Fprintln(w, "two")
	w.writeQueue()
	w.writeQueue()
	if want := "one\ntwo\nthree\n"; got.String() != want {
		t.Errorf("got %q, want %q", got.String(), want)
	}
}

type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(b []byte) (int, error) { return f(b) }

// A reader that stops does not block Write. When it reads again, the drops are reported once.
func TestStoppedReader(t *testing.T) {
	s := &sink{space: -1}
	s.stopped.Lock()
	w := newTestWriter(s)
	line := strings.Repeat("x", 1023) + "\n"
	const excess = 50
	for range maxQueued/len(line) + excess {
		if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	s.stopped.Unlock()
	waitFor(t, "the report", s, func(text string) bool { return strings.Contains(text, fmt.Sprintf("dropped %d\n", excess)) })
	fmt.Fprintln(w, "after")
	w.close()
	if n := strings.Count(s.read(), "dropped"); n != 1 {
		t.Errorf("%d reports", n)
	}
	whole := strings.Count(s.read(), line)
	if whole != maxQueued/len(line) || !strings.HasSuffix(s.read(), "after\n") {
		t.Errorf("%d whole lines were written, not %d", whole, maxQueued/len(line))
	}
}

// A full disk drops the lines that do not fit. A line that was cut short does not run into the next.
func TestFullDisk(t *testing.T) {
	s := &sink{space: len("first\nsec")}
	w := newTestWriter(s)
	fmt.Fprintln(w, "first")
	fmt.Fprintln(w, "second")
	fmt.Fprintln(w, "third")
	waitFor(t, "a full disk", s, func(text string) bool { return text == "first\nsec" })
	w.mu.Lock()
	for w.size > 0 { // until all three were tried
		w.mu.Unlock()
		time.Sleep(time.Millisecond)
		w.mu.Lock()
	}
	w.mu.Unlock()
	s.setSpace(-1)
	fmt.Fprintln(w, "fourth")
	w.close()
	if want := "first\nsec\nfourth\ndropped 2\n"; s.read() != want {
		t.Errorf("got %q, want %q", s.read(), want)
	}
}

// close returns even if the reader never reads.
func TestCloseTimeout(t *testing.T) {
	s := &sink{space: -1}
	s.stopped.Lock()
	defer s.stopped.Unlock()
	w := newTestWriter(s)
	fmt.Fprintln(w, "unread")
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.close()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("close did not return")
	}
}
