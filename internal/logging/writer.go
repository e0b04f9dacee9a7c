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
	// maxSpare is the maximum size of a queue whose memory is used again.
	maxSpare = 64 << 10
	// writeInterval is the minimum time between two writes. Lines that arrive within it are written
	// together: a write and the wakeup before it cost more than the line. A crash loses them.
	writeInterval = 10 * time.Millisecond
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
	queue   []byte
	size    int // bytes in the queue or being written
	dropped int // lines since the last call of onDropped

	spare   []byte // memory for the next queue, never the queue's; only run uses this and the following
	partial bool   // the last line was written in part

	queued  chan struct{} // has an element if the queue may have lines
	closing chan struct{} // closed by close
	done    chan struct{} // closed when run has returned
}

// newWriter starts a writer. A line that onDropped writes comes after the queued lines.
func newWriter(out io.Writer, onDropped func(lines int)) *writer {
	w := &writer{out: out, onDropped: onDropped, queued: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{})}
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
	w.queue = append(w.queue, line...)
	w.size += len(line)
	select {
	case w.queued <- struct{}{}:
	default:
	}
	return len(line), nil
}

// Sync implements zapcore.WriteSyncer. zap calls it before a crash; waiting here could block.
func (w *writer) Sync() error { return nil }

// run writes queued lines until the writer is closed and the queue empty.
func (w *writer) run() {
	defer close(w.done)
	for {
		select {
		case <-w.queued:
			w.writeQueue()
			select {
			case <-time.After(writeInterval):
			case <-w.closing:
			}
		case <-w.closing:
			for w.writeQueue() {
			}
			return
		}
	}
}

// writeQueue writes the queued lines. It returns false if there are none.
func (w *writer) writeQueue() bool {
	w.mu.Lock()
	lines := w.queue
	w.queue, w.spare = w.spare, lines[:0]
	w.mu.Unlock()
	if len(lines) == 0 {
		return false
	}
	text := lines
	if w.partial {
		text = append([]byte{'\n'}, lines...)
	}
	n, err := w.out.Write(text)
	if n > 0 {
		w.partial = text[n-1] != '\n'
	}
	unwritten := lines[len(lines)-min(len(lines), len(text)-n):]
	w.finish(len(lines), bytes.Count(unwritten, []byte{'\n'}), err)
	if cap(lines) > maxSpare {
		w.spare = nil
	}
	return true
}

// finish releases the space of lines, of which lost could not be written. It reports dropped lines
// once half of the queue is free.
func (w *writer) finish(size, lost int, err error) {
	w.mu.Lock()
	w.size -= size
	dropped := 0
	if err != nil {
		w.dropped += lost
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
	close(w.closing)
	select {
	case <-w.done:
	case <-time.After(flushTimeout):
	}
}
