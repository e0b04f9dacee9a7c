package main

import (
	"bytes"
	"io"
	"sync"
	"time"
)

const (
	// logQueue is how many bytes of the log wait for whoever reads it.
	logQueue = 1 << 20
	// flushTime is what they get at the end of the program.
	flushTime = time.Second
)

// logWriter is a log that never holds up those who write to it: neither a reader that has
// stopped, with a pipe full before it, nor a full disk is a reason to let no client in. What
// does not fit into the queue, or cannot be written, is lost, and counted.
type logWriter struct {
	to   io.Writer
	lost func(lines int) // is told, once lines can be written again

	mu      sync.Mutex
	queue   [][]byte
	size    int // bytes in it
	missing int // lines lost since lost was called
	closed  bool
	more    *sync.Cond
	ended   chan struct{} // closed once all is written and closed
}

// newLogWriter writes until close. What lost writes comes behind the lines that are there.
func newLogWriter(to io.Writer, lost func(lines int)) *logWriter {
	w := &logWriter{to: to, lost: lost, ended: make(chan struct{})}
	w.more = sync.NewCond(&w.mu)
	go w.run()
	return w
}

// Write takes one line, and never fails.
func (w *logWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.size+len(line) > logQueue {
		w.missing++
		return len(line), nil
	}
	w.queue = append(w.queue, bytes.Clone(line))
	w.size += len(line)
	w.more.Signal()
	return len(line), nil
}

// Sync is for zap, which wants to see what comes before a crash: that is on its way.
func (w *logWriter) Sync() error { return nil }

func (w *logWriter) run() {
	defer close(w.ended)
	torn := false // the last line has no end
	for {
		line, ok := w.next()
		if !ok {
			return
		}
		text := line
		if torn {
			text = append([]byte{'\n'}, line...)
		}
		n, err := w.to.Write(text)
		if n > 0 {
			torn = n < len(text)
		}
		w.wrote(len(line), err)
	}
}

// next waits for a line. ok is false if there will be none.
func (w *logWriter) next() (line []byte, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) == 0 && !w.closed {
		w.more.Wait()
	}
	if len(w.queue) == 0 {
		return nil, false
	}
	line = w.queue[0]
	w.queue[0] = nil
	w.queue = w.queue[1:]
	return line, true
}

// wrote makes room, and says what was lost before.
func (w *logWriter) wrote(size int, err error) {
	w.mu.Lock()
	w.size -= size
	missing := 0
	if err != nil {
		w.missing++
	} else if w.size < logQueue/2 { // there is room for it, and it is not said all the time
		missing, w.missing = w.missing, 0
	}
	w.mu.Unlock()
	if missing > 0 {
		w.lost(missing)
	}
}

// close waits until what is left has been written, for as long as that is worth waiting.
func (w *logWriter) close() {
	w.mu.Lock()
	w.closed = true
	w.more.Signal()
	w.mu.Unlock()
	select {
	case <-w.ended:
	case <-time.After(flushTime):
	}
}
