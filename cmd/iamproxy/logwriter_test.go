package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// logReader is a reader of the log, who may not read, and a disk that may be full.
type logReader struct {
	mu      sync.Mutex
	stopped sync.Mutex // held while nobody reads
	room    int        // bytes of it; negative: all that there are
	text    bytes.Buffer
}

func (s *logReader) Write(b []byte) (int, error) {
	s.stopped.Lock()
	defer s.stopped.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room < 0 || len(b) <= s.room {
		s.room -= len(b)
		return s.text.Write(b)
	}
	n, _ := s.text.Write(b[:s.room])
	s.room = 0
	return n, errors.New("no space left on device")
}

func (s *logReader) setRoom(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = n
}

func (s *logReader) read() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// newTestWriter writes the number of lost lines as a line.
func newTestWriter(s *logReader) (w *logWriter) {
	w = newLogWriter(s, func(lines int) { fmt.Fprintf(w, "lost %d\n", lines) })
	return w
}

func untilWritten(t *testing.T, what string, s *logReader, condition func(text string) bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(s.read()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s: %q", what, s.read())
		}
	}
}

// All that was written before the end is there, in its order.
func TestLogIsFlushed(t *testing.T) {
	s := &logReader{room: -1}
	w := newTestWriter(s)
	var want strings.Builder
	for n := range 1000 {
		fmt.Fprintf(w, "line %d\n", n)
		fmt.Fprintf(&want, "line %d\n", n)
	}
	w.close()
	if s.read() != want.String() {
		t.Errorf("%d bytes are there, not %d", len(s.read()), want.Len())
	}
}

// Nobody waits for a reader who has stopped. When he reads again he learns what he missed.
func TestLogThatNobodyReads(t *testing.T) {
	s := &logReader{room: -1}
	s.stopped.Lock()
	w := newTestWriter(s)
	line := strings.Repeat("x", 1023) + "\n"
	const more = 50
	for range logQueue/len(line) + more {
		if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	s.stopped.Unlock()
	untilWritten(t, "the loss", s, func(text string) bool { return strings.Contains(text, fmt.Sprintf("lost %d\n", more)) })
	fmt.Fprintln(w, "and on")
	w.close()
	if n := strings.Count(s.read(), "lost"); n != 1 {
		t.Errorf("it is said %d times", n)
	}
	whole := strings.Count(s.read(), line)
	if whole != logQueue/len(line) || !strings.HasSuffix(s.read(), "and on\n") {
		t.Errorf("%d whole lines are there, not %d", whole, logQueue/len(line))
	}
}

// A full disk loses the lines for which there is no room, and the one that it has torn
// spoils no other.
func TestLogOnAFullDisk(t *testing.T) {
	s := &logReader{room: len("first\nsec")}
	w := newTestWriter(s)
	fmt.Fprintln(w, "first")
	fmt.Fprintln(w, "second")
	fmt.Fprintln(w, "third")
	untilWritten(t, "the disk to be full", s, func(text string) bool { return text == "first\nsec" })
	w.mu.Lock()
	for w.size > 0 { // until all three have been tried
		w.mu.Unlock()
		time.Sleep(time.Millisecond)
		w.mu.Lock()
	}
	w.mu.Unlock()
	s.setRoom(-1)
	fmt.Fprintln(w, "fourth")
	w.close()
	if want := "first\nsec\nfourth\nlost 2\n"; s.read() != want {
		t.Errorf("got %q, want %q", s.read(), want)
	}
}

// Whoever never reads does not keep the program from ending.
func TestLogGivesUp(t *testing.T) {
	s := &logReader{room: -1}
	s.stopped.Lock()
	defer s.stopped.Unlock()
	w := newTestWriter(s)
	fmt.Fprintln(w, "unread")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.close()
	}()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("it waits for ever")
	}
}
