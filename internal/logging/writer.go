package logging

import (
	"bytes"
	"io"
	"sync"
	"time"
)

const (
	// maxQueued is the maximum number of bytes waiting to be written.
	maxQueued = 1 << 20
	// flushTimeout bounds the time that close waits for queued lines.
	flushTimeout = time.Second
)

// writer writes lines in the background, so that logging never blocks. Neither a full pipe nor
// a full disk delays a client. Lines that exceed the queue or cannot be written are dropped and
// counted.
type writer struct {
	out       io.Writer
	onDropped func(lines int) // called when lines can be written again

	mu      sync.Mutex
	queue   [][]byte
	size    int // bytes in the queue or being written
	dropped int // lines since the last call of onDropped
	closed  bool
	changed *sync.Cond
	done    chan struct{} // closed when run has returned
}

// newWriter starts a writer. A line that onDropped writes comes after the queued lines.
func newWriter(out io.Writer, onDropped func(lines int)) *writer {
	w := &writer{out: out, onDropped: onDropped, done: make(chan struct{})}
	w.changed = sync.NewCond(&w.mu)
	go w.run()
	return w
}

// Write queues one line. It never fails.
func (w *writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.size+len(line) > maxQueued {
		w.dropped++
		return len(line), nil
	}
	w.queue = append(w.queue, bytes.Clone(line))
	w.size += len(line)
	w.changed.Signal()
	return len(line), nil
}

// Sync implements zapcore.WriteSyncer. zap calls it before a crash; waiting here could block.
func (w *writer) Sync() error { return nil }

// run writes queued lines until the writer is closed and the queue empty.
func (w *writer) run() {
	defer close(w.done)
	partial := false // the last line was written in part
	for {
		line, ok := w.next()
		if !ok {
			return
		}
		text := line
		if partial {
			text = append([]byte{'\n'}, line...)
		}
		n, err := w.out.Write(text)
		if n > 0 {
			partial = n < len(text)
		}
		w.finish(len(line), err)
	}
}

// next waits for a line. It returns false once the writer is closed and the queue empty.
func (w *writer) next() (line []byte, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) == 0 && !w.closed {
		w.changed.Wait()
	}
	if len(w.queue) == 0 {
		return nil, false
	}
	line = w.queue[0]
	w.queue[0] = nil
	w.queue = w.queue[1:]
	return line, true
}

// finish releases the space of a line, and reports dropped lines once half of the queue is free.
func (w *writer) finish(size int, err error) {
	w.mu.Lock()
	w.size -= size
	dropped := 0
	if err != nil {
		w.dropped++
	} else if w.size < maxQueued/2 {
		dropped, w.dropped = w.dropped, 0
	}
	w.mu.Unlock()
	if dropped > 0 {
		w.onDropped(dropped)
	}
}

// close waits until the queue is written, for at most flushTimeout.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.changed.Signal()
	w.mu.Unlock()
	select {
	case <-w.done:
	case <-time.After(flushTimeout):
	}
}
