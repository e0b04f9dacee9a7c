package channel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm/message"
)

var errCut = errors.New("connection was cut")

type frame struct {
	typ websocket.MessageType
	b   []byte
}

// pipe is a WebSocket in memory.
type pipe struct {
	up, down chan frame // to and from the peer
	closed   chan struct{}
	once     sync.Once
	err      error
	silent   atomic.Bool // pings get no answer
	reset    atomic.Bool // nothing can be written
}

func newPipe() *pipe {
	return &pipe{up: make(chan frame, 1<<15), down: make(chan frame, 1<<15), closed: make(chan struct{})}
}

func (p *pipe) close(err error) {
	p.once.Do(func() {
		p.err = err
		close(p.closed)
	})
}

func (p *pipe) CloseNow() error {
	p.close(errCut)
	return nil
}

func (p *pipe) Reader(context.Context) (websocket.MessageType, io.Reader, error) {
	select {
	case f := <-p.down:
		return f.typ, bytes.NewReader(f.b), nil
	case <-p.closed:
		return 0, nil, p.err
	}
}

func (p *pipe) Write(_ context.Context, typ websocket.MessageType, b []byte) error {
	if p.reset.Load() {
		return errCut
	}
	select {
	case <-p.closed:
		return p.err
	case p.up <- frame{typ, bytes.Clone(b)}:
		return nil
	}
}

func (p *pipe) Ping(ctx context.Context) error {
	if p.silent.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// peer is the agent with the message gateway. It sends what it receives back. Its network
// decides what arrives.
type peer struct {
	t *testing.T
	// network returns what arrives of a message, in this order. n counts the messages of
	// this direction, from 0, on all WebSockets. If nil, all arrives at once.
	network func(toAgent bool, n int, b []byte) [][]byte
	// request replaces the handshake.
	request *message.HandshakeRequestPayload
	// before is called before a message is handled, and after the network has passed it.
	before func(m *message.Message)
	// hold, if set, makes the peer not echo.
	hold bool
	// connectError returns the error of an attempt to connect. May be nil.
	connectError func(attempt int) error
	// maxEarly is that of the channel.
	maxEarly int64

	stopped  chan struct{}
	handling sync.Mutex // of one message

	mu        sync.Mutex
	pipe      *pipe
	pipes     int
	attempts  atomic.Int64
	counts    [2]int
	expected  int64
	early     map[int64]message.Message
	seq       int64
	unacked   map[int64]message.Message
	oldest    int64 // of unacked
	got       bytes.Buffer
	flags     []message.FlagValue
	responses []message.HandshakeResponsePayload
	versions  []string
	sent      map[int64]int // how often each message of the client arrived
}

func (p *peer) config() Config {
	return Config{Connect: p.connect, ClientVersion: "1.2.999.0", maxEarly: p.maxEarly}
}

func (p *peer) connect(_ context.Context, resume bool) (Socket, string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	attempt := int(p.attempts.Add(1))
	if resume != (p.pipes > 0) {
		p.t.Errorf("attempt %d: resume is %v", attempt, resume)
	}
	if p.connectError != nil {
		if err := p.connectError(attempt); err != nil {
			return nil, "", err
		}
	}
	if p.pipes == 0 {
		p.early, p.sent, p.stopped = map[int64]message.Message{}, map[int64]int{}, make(chan struct{})
		p.unacked = map[int64]message.Message{}
		go p.resend()
	}
	p.pipes++
	p.pipe = newPipe()
	go p.serve(p.pipe, p.pipes == 1)
	return p.pipe, "TOKEN", nil
}

// cut ends the WebSocket.
func (p *peer) cut(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pipe.close(err)
}

func (p *peer) serve(w *pipe, first bool) {
	select {
	case f := <-w.up:
		var open message.OpenChannel
		if err := json.Unmarshal(f.b, &open); err != nil || f.typ != websocket.MessageText || open.TokenValue != "TOKEN" || open.ClientID == "" {
			p.t.Errorf("got %q, %v", f.b, err)
		}
		p.mu.Lock()
		p.versions = append(p.versions, open.ClientVersion)
		p.mu.Unlock()
	case <-w.closed:
		return
	}
	if first {
		request := p.request
		if request == nil {
			request = &message.HandshakeRequestPayload{AgentVersion: "3.3.0.0", RequestedClientActions: []message.RequestedAction{{
				ActionType: message.SessionType, ActionParameters: json.RawMessage(`{"SessionType":"Port","Properties":{"portNumber":"5432"}}`),
			}}}
		}
		if len(request.RequestedClientActions) > 0 {
			p.send(message.HandshakeRequest, message.Encode(request))
		}
	}
	for {
		select {
		case f := <-w.up:
			for _, b := range p.pass(true, f.b) {
				m, err := message.Parse(b)
				if err != nil {
					p.t.Error(err)
				}
				p.handle(m)
			}
		case <-w.closed:
			return
		}
	}
}

func (p *peer) pass(toAgent bool, b []byte) [][]byte {
	i := 0
	if toAgent {
		i = 1
	}
	p.mu.Lock()
	n := p.counts[i]
	p.counts[i]++
	network := p.network
	p.mu.Unlock()
	if network == nil {
		return [][]byte{b}
	}
	return network(toAgent, n, b)
}

func (p *peer) handle(m message.Message) {
	p.handling.Lock()
	defer p.handling.Unlock()
	if p.before != nil {
		p.before(&m)
	}
	switch m.Type {
	case message.Acknowledge:
		var ack message.Acknowledgement
		if err := json.Unmarshal(m.Payload, &ack); err != nil || ack.Type != message.OutputStreamData {
			p.t.Errorf("got %q", m.Payload)
		}
		p.mu.Lock()
		if m, ok := p.unacked[ack.SequenceNumber]; ok && m.ID.String() != ack.ID {
			p.t.Errorf("acknowledged %+v", ack)
		}
		delete(p.unacked, ack.SequenceNumber)
		p.mu.Unlock()
	case message.InputStreamData:
		p.mu.Lock()
		p.sent[m.SequenceNumber]++
		p.transmit(*message.NewAcknowledge(&m, time.Now()))
		if m.SequenceNumber >= p.expected {
			p.early[m.SequenceNumber] = m
		}
		var ready []message.Message
		for {
			next, ok := p.early[p.expected]
			if !ok {
				break
			}
			delete(p.early, p.expected)
			p.expected++
			ready = append(ready, next)
		}
		p.mu.Unlock()
		for _, m := range ready {
			p.process(m)
		}
	default:
		p.t.Errorf("got a message of type %s", m.Type)
	}
}

func (p *peer) process(m message.Message) {
	switch m.PayloadType {
	case message.HandshakeResponse:
		var response message.HandshakeResponsePayload
		if err := json.Unmarshal(m.Payload, &response); err != nil {
			p.t.Error(err)
		}
		p.mu.Lock()
		p.responses = append(p.responses, response)
		p.mu.Unlock()
		p.send(message.HandshakeComplete, message.Encode(message.HandshakeCompletePayload{}))
	case message.Output:
		p.mu.Lock()
		p.got.Write(m.Payload)
		p.mu.Unlock()
		if len(m.Payload) > message.MaxPayload {
			p.t.Errorf("got %d bytes", len(m.Payload))
		}
		if !p.hold {
			p.send(message.Output, m.Payload)
		}
	case message.Flag:
		flag, err := message.ParseFlag(m.Payload)
		if err != nil {
			p.t.Error(err)
		}
		p.mu.Lock()
		p.flags = append(p.flags, flag)
		p.mu.Unlock()
	default:
		p.t.Errorf("got payload type %d", m.PayloadType)
	}
}

// send sends a message of data.
func (p *peer) send(t message.PayloadType, payload []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := message.Message{
		Type: message.OutputStreamData, Created: time.Now(), SequenceNumber: p.seq, ID: message.NewID(), PayloadType: t, Payload: bytes.Clone(payload),
	}
	p.seq++
	p.unacked[m.SequenceNumber] = m
	p.transmit(m)
}

// transmit is called with the mutex.
func (p *peer) transmit(m message.Message) {
	w := p.pipe
	p.mu.Unlock()
	defer p.mu.Lock()
	for _, b := range p.pass(false, m.Append(nil)) {
		w.down <- frame{websocket.MessageBinary, b}
	}
}

// resend repeats the oldest message, as the agent does.
func (p *peer) resend() {
	for {
		select {
		case <-time.After(200 * time.Millisecond):
		case <-p.stopped:
			return
		}
		p.mu.Lock()
		for ; p.oldest < p.seq; p.oldest++ {
			if m, ok := p.unacked[p.oldest]; ok {
				p.transmit(m)
				break
			}
		}
		p.mu.Unlock()
	}
}

// setNetwork replaces the network.
func (p *peer) setNetwork(network func(toAgent bool, n int, b []byte) [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.network = network
}

// arrived returns the number of different messages of data, of all messages, and of the bytes of
// data that have arrived from the client.
func (p *peer) arrived() (data, all, size int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sent), p.counts[1], p.got.Len()
}

// control sends a message without a payload that is not in the sequence.
func (p *peer) control(t message.Type) { p.inject((&message.Message{Type: t}).Append(nil)) }

// inject sends bytes past the network.
func (p *peer) inject(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pipe.down <- frame{websocket.MessageBinary, b}
}

// nothing is a network that loses all.
func nothing(bool, int, []byte) [][]byte { return nil }

// stop ends the peer's goroutines.
func (p *peer) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pipe != nil {
		p.pipe.close(errCut)
		close(p.stopped)
	}
}
