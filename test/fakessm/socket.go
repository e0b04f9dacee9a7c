package fakessm

import (
	"context"
	"net"
	"sync"

	"github.com/coder/websocket"
)

// socket is the WebSocket of a client.
type socket struct {
	*websocket.Conn
	tcp     *net.TCPConn
	queue   *queue
	sent    chan struct{} // closed when nothing is sent any more
	written chan struct{} // closed when write has returned
}

func newSocket(conn *websocket.Conn, tcp *net.TCPConn) *socket {
	return &socket{conn, tcp, newQueue(), make(chan struct{}), make(chan struct{})}
}

// write sends what is queued until the queue is closed or a write fails. Then it closes the
// socket.
func (s *socket) write(ctx context.Context) {
	defer close(s.written)
	sent := sync.OnceFunc(func() { close(s.sent) })
	defer sent()
	for {
		b, open := s.queue.next()
		if !open {
			sent()
			_ = s.Close(websocket.StatusNormalClosure, s.queue.closedFor()) // the client may have gone
			return
		}
		if s.Write(ctx, websocket.MessageBinary, b) != nil {
			_ = s.CloseNow() // ends the reader, too
			return
		}
	}
}

// reset closes the connection with a reset.
func (s *socket) reset() {
	if s.tcp != nil {
		_ = s.tcp.SetLinger(0)
	}
	_ = s.CloseNow()
}

// queue holds messages until they are sent, so that an agent and a client that both wait for
// a write do not block each other.
type queue struct {
	mu       sync.Mutex
	changed  sync.Cond
	messages [][]byte
	closed   bool
	reason   string
}

func newQueue() *queue {
	q := &queue{}
	q.changed.L = &q.mu
	return q
}

// add does nothing once the queue is closed.
func (q *queue) add(b []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.messages = append(q.messages, b)
		q.changed.Signal()
	}
}

// close ends next after the messages that are queued. The first reason counts.
func (q *queue) close(reason string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed, q.reason = true, reason
		q.changed.Signal()
	}
}

// closedFor returns the reason of close.
func (q *queue) closedFor() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.reason
}

// next waits for a message. It returns false when the queue is closed and empty.
func (q *queue) next() ([]byte, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.messages) == 0 {
		if q.closed {
			return nil, false
		}
		q.changed.Wait()
	}
	b := q.messages[0]
	q.messages = q.messages[1:]
	return b, true
}
