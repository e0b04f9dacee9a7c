package fakessm

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm/message"
	"github.com/iamproxy/iamproxy/test/fakeaws"
)

const (
	// openTime is the time that a client has to send its token.
	openTime = 10 * time.Second
	// tooManyMessages is the number of messages for an agent that does not read, after which
	// the gateway reads no more from its client.
	tooManyMessages = 1024
)

// session is a session, with or without a client.
type session struct {
	gateway *Gateway
	fakeaws.Session
	url, cell string
	agent     *agent
	ctx       context.Context
	cancel    context.CancelFunc
	up        chan []byte // messages for the agent

	mu       sync.Mutex
	tokens   map[string]bool // issued, and not used
	client   *socket         // nil: none is connected
	fromUp   lossy
	fromDown lossy
	idle     *time.Timer // ends the session
}

func newSession(g *Gateway, s fakeaws.Session, cell string) *session {
	opened := &session{gateway: g, Session: s, cell: cell, url: g.streamURL(s.ID, cell), up: make(chan []byte, tooManyMessages), tokens: make(map[string]bool)}
	opened.ctx, opened.cancel = context.WithCancel(g.stopped)
	opened.idle = time.AfterFunc(g.idleTimeout(), func() { opened.end("Your session timed out due to inactivity.") })
	context.AfterFunc(opened.ctx, func() { opened.idle.Stop() })
	if g.MaxDuration > 0 {
		end := time.AfterFunc(g.MaxDuration, func() { opened.end("Your session has reached its maximum duration.") })
		context.AfterFunc(opened.ctx, func() { end.Stop() })
	}
	return opened
}

func (g *Gateway) idleTimeout() time.Duration {
	if g.IdleTimeout > 0 {
		return g.IdleTimeout
	}
	return DefaultIdleTimeout
}

// issueToken returns a token that opens the data channel once.
func (s *session) issueToken() string {
	token := "AAEAA" + strings.Repeat(rand.Text(), 6)
	s.gateway.issue(token)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token] = true
	return token
}

// serve serves a client until its WebSocket ends.
func (s *session) serve(client *socket) {
	if !s.accept(client) {
		client.Close(websocket.StatusPolicyViolation, "invalid token")
		return
	}
	s.gateway.count(func(c *Counts) { c.OpenSockets++ })
	defer s.gateway.count(func(c *Counts) { c.OpenSockets-- })
	go client.write(s.gateway.stopped)
	s.attach(client)
	for {
		kind, b, err := client.Read(s.gateway.stopped) // longer than the session, for its end
		if err != nil {
			break
		}
		if kind == websocket.MessageBinary {
			s.fromClient(b)
		}
	}
	s.detach(client)
	client.queue.close("")
	<-client.written
}

// accept reads the first message, and uses the token in it up.
func (s *session) accept(client *socket) bool {
	ctx, cancel := context.WithTimeout(s.ctx, openTime)
	defer cancel()
	kind, b, err := client.Read(ctx)
	var open message.OpenChannel
	if err != nil || kind != websocket.MessageText || json.Unmarshal(b, &open) != nil ||
		open.MessageSchemaVersion != "1.0" || open.RequestID == "" || open.ClientID == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	valid := s.tokens[open.TokenValue]
	delete(s.tokens, open.TokenValue)
	return valid
}

// attach makes client the one that receives. The first one starts the agent.
func (s *session) attach(client *socket) {
	s.mu.Lock()
	before := s.client
	s.client = client
	first := s.agent == nil
	if first {
		s.agent = newAgent(s)
		for _, run := range []func(){s.agent.run, s.agent.receive, s.agent.resend} {
			if s.gateway.begin() {
				go func() {
					defer s.gateway.running.Done()
					run()
				}()
			}
		}
	}
	s.mu.Unlock()
	if before != nil {
		before.reset()
	}
	client.queue.add(control(message.StartPublication))
	if !first {
		s.toAgent(control(message.StartPublication))
	}
}

// detach forgets a client, and all that was sent and has not reached it.
func (s *session) detach(client *socket) {
	s.mu.Lock()
	current := s.client == client
	if current {
		s.client = nil
	}
	s.mu.Unlock()
	if current {
		s.toAgent(control(message.PausePublication))
	}
}

// fromClient passes a message to the agent.
func (s *session) fromClient(b []byte) {
	if _, err := message.Parse(b); err != nil {
		return // the agent would ignore it
	}
	faults := s.gateway.currentFaults().Up
	s.mu.Lock()
	arrived := s.fromUp.pass(faults, b)
	s.mu.Unlock()
	for _, m := range arrived {
		s.toAgent(m)
	}
}

// toAgent sends a message to the agent. It blocks while the agent does not read.
func (s *session) toAgent(b []byte) {
	select {
	case s.up <- b:
	case <-s.ctx.Done():
	}
}

// toClient sends a message of the agent to the client. It is lost if no client is connected.
func (s *session) toClient(b []byte) {
	faults := s.gateway.currentFaults().Down
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		return
	}
	for _, m := range s.fromDown.pass(faults, b) {
		s.client.queue.add(m)
	}
}

// unacknowledged returns the number of messages that the client has not acknowledged.
func (s *session) unacknowledged() int {
	s.mu.Lock()
	a := s.agent
	s.mu.Unlock()
	if a == nil {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.unacked)
}

// active restarts the idle timeout, when data was sent.
func (s *session) active() {
	if s.ctx.Err() == nil {
		s.idle.Reset(s.gateway.idleTimeout())
	}
}

// end ends the session. The client receives channel_closed with output.
func (s *session) end(output string) {
	g := s.gateway
	g.mu.Lock()
	ended := g.sessions[s.ID] == nil
	g.sessions[s.ID] = nil
	g.mu.Unlock()
	if ended {
		return
	}
	if client := s.connected(); client != nil {
		client.queue.add(closed(s.ID, s.Target, output))
		client.queue.close("") // the writer sends the rest, and closes the socket
		select {
		case <-client.sent:
		case <-time.After(openTime): // the client does not read
		}
	}
	s.cancel()
}

// connected returns the client, or nil.
func (s *session) connected() *socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

// cut resets the connection of the client.
func (s *session) cut() {
	if client := s.connected(); client != nil {
		client.reset()
	}
}

// bye closes the socket of the client as AWS does, after the messages that are queued.
func (s *session) bye() {
	if client := s.connected(); client != nil {
		s.detach(client)
		client.queue.close("Bye")
	}
}

// control returns a message without data from the gateway.
func control(t message.Type) []byte {
	m := message.Message{Type: t, Created: time.Now(), Flags: message.SYN | message.FIN, ID: message.NewID()}
	return m.Append(nil)
}

// closed returns the message that ends a session for its client.
func closed(id, target, output string) []byte {
	m := message.Message{Type: message.ChannelClosed, Created: time.Now(), ID: message.NewID()}
	m.Payload = message.Encode(message.ChannelClosedPayload{MessageID: m.ID.String(), CreatedDate: m.Created.UTC().Format(time.RFC3339),
		DestinationID: target, SessionID: id, MessageType: message.ChannelClosed, SchemaVersion: 1, Output: output})
	return m.Append(nil)
}
