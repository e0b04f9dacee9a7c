package ssm

import (
	"cmp"
	"net"
	"os"
	"sync"
	"time"
)

// keptBuffer is the size up to which a queue keeps its memory while it is empty.
const keptBuffer = 4 << 10

// queue is one direction of a connection: a bounded queue of bytes, like the buffer of a socket.
type queue struct {
	limit int

	mu       sync.Mutex
	data     []byte
	spare    []byte        // for take
	finished error         // of reads when data is empty; nil: more may come
	closed   error         // of reads and writes at once; nil: open
	changed  chan struct{} // closed at the next change; nil: nothing waits
}

// read waits for bytes.
func (q *queue) read(p []byte, deadline *deadline) (int, error) {
	for {
		q.mu.Lock()
		if q.closed != nil || deadline.passed() {
			defer q.mu.Unlock()
			return 0, cmp.Or(q.closed, os.ErrDeadlineExceeded)
		}
		if len(q.data) > 0 || len(p) == 0 {
			n := copy(p, q.data)
			q.consume(n)
			q.mu.Unlock()
			return n, nil
		}
		if q.finished != nil {
			defer q.mu.Unlock()
			return 0, q.finished
		}
		changed := q.wait()
		q.mu.Unlock()
		select {
		case <-changed:
		case <-deadline.done():
		}
	}
}

// consume removes bytes from the front.
func (q *queue) consume(n int) {
	q.data = q.data[n:]
	if len(q.data) == 0 {
		q.data = nil
	}
	q.notify()
}

// take waits for bytes and returns all of them. The slice is valid until the next take.
func (q *queue) take() ([]byte, error) {
	for {
		q.mu.Lock()
		if q.closed != nil {
			defer q.mu.Unlock()
			return nil, q.closed
		}
		if len(q.data) > 0 {
			taken := q.data
			q.data, q.spare = q.spare[:0], taken
			if cap(taken) > keptBuffer {
				q.spare = nil
			}
			q.notify()
			q.mu.Unlock()
			return taken, nil
		}
		if q.finished != nil {
			defer q.mu.Unlock()
			return nil, q.finished
		}
		changed := q.wait()
		q.mu.Unlock()
		<-changed
	}
}

// write waits for room. While it waits, it calls check at intervals, which may be nil, and ends
// with its error.
func (q *queue) write(p []byte, deadline *deadline, check func(waited time.Duration) error) (int, error) {
	written := 0
	began := time.Now()
	for {
		q.mu.Lock()
		switch {
		case q.closed != nil:
			defer q.mu.Unlock()
			return written, q.closed
		case q.finished != nil:
			q.mu.Unlock()
			return written, net.ErrClosed
		case deadline.passed():
			q.mu.Unlock()
			return written, os.ErrDeadlineExceeded
		}
		if n := min(len(p)-written, q.limit-len(q.data)); n > 0 {
			q.data = append(q.data, p[written:written+n]...)
			written += n
			q.notify()
			began = time.Now()
		}
		if written == len(p) {
			q.mu.Unlock()
			return written, nil
		}
		changed := q.wait()
		q.mu.Unlock()
		var tick <-chan time.Time
		if check != nil {
			tick = time.After(checkInterval)
		}
		select {
		case <-changed:
		case <-deadline.done():
		case <-tick:
			if err := check(time.Since(began)); err != nil {
				return written, err
			}
		}
	}
}

// finish makes reads end with err after the bytes that are in the queue, and writes fail.
func (q *queue) finish(err error) { q.end(&q.finished, err) }

// close makes reads and writes fail with err.
func (q *queue) close(err error) { q.end(&q.closed, err) }

func (q *queue) end(which *error, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if *which == nil {
		*which = err
	}
	if q.closed != nil {
		q.data, q.spare = nil, nil
	}
	q.notify()
}

// wait returns a channel that is closed at the next change.
func (q *queue) wait() <-chan struct{} {
	if q.changed == nil {
		q.changed = make(chan struct{})
	}
	return q.changed
}

func (q *queue) notify() {
	if q.changed != nil {
		close(q.changed)
		q.changed = nil
	}
}

// deadline is that of reads or of writes. The zero value and nil are none.
type deadline struct {
	mu    sync.Mutex
	over  chan struct{} // closed when the deadline has passed; nil: nothing has waited
	timer *time.Timer
	sets  int
}

// set sets the deadline. A zero time is none. Pending calls have the new one.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sets++
	if d.timer != nil {
		d.timer.Stop()
	}
	if d.over == nil || isClosed(d.over) {
		d.over = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		close(d.over)
		return
	}
	set := d.sets
	d.timer = time.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.sets == set {
			close(d.over)
		}
	})
}

func (d *deadline) done() <-chan struct{} {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over == nil {
		d.over = make(chan struct{})
	}
	return d.over
}

func (d *deadline) passed() bool { return d != nil && isClosed(d.done()) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// isClosed reports whether close was called.
func (q *queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed != nil
}

// isFinished reports whether finish was called.
func (q *queue) isFinished() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.finished != nil
}
