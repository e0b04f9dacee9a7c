package fakessm

import (
	"bytes"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm/message"
)

// Faults are failures of the gateway. The zero value has none.
type Faults struct {
	// Up and Down are the faults of messages from the client and from the agent.
	Up, Down Loss
	// RefuseUpgrade is the HTTP status that answers all upgrades. Zero: none.
	RefuseUpgrade int
	// RefuseResume makes ResumeSession return no token, as for a session that has ended.
	RefuseResume bool
}

// Loss has the faults of the messages in one direction, acknowledgements included. Each is
// the number of messages of which one is affected. Zero: none.
type Loss struct {
	Lose      int // the message is lost; 1 loses all
	Duplicate int // the message arrives twice
	Reorder   int // the message arrives after its successor
}

// lossy applies a Loss to a sequence of messages.
type lossy struct {
	number int
	held   []byte // waits for its successor
}

// pass returns what arrives when a message is sent.
func (l *lossy) pass(faults Loss, message []byte) (arrived [][]byte) {
	l.number++
	nth := func(n int) bool { return n > 0 && l.number%n == 0 }
	held := l.held
	l.held = nil
	switch {
	case nth(faults.Lose):
	case nth(faults.Reorder):
		l.held = message
	case nth(faults.Duplicate):
		arrived = [][]byte{message, bytes.Clone(message)}
	default:
		arrived = [][]byte{message}
	}
	if held != nil {
		arrived = append(arrived, held)
	}
	return arrived
}

// SetFaults replaces the faults from now on.
func (g *Gateway) SetFaults(f Faults) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults = f
}

func (g *Gateway) currentFaults() Faults {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.faults
}

// Cut resets the connections of all WebSockets. Their sessions can be resumed.
func (g *Gateway) Cut() {
	for _, s := range g.all() {
		s.cut()
	}
}

// Bye closes all WebSockets with "1000 Bye" after what is queued for them, as AWS does every
// 60 minutes. Their sessions can be resumed.
func (g *Gateway) Bye() {
	for _, s := range g.all() {
		s.bye()
	}
}

// Pause makes all agents stop sending data until Unpause, or until the next message of their
// client.
func (g *Gateway) Pause() { g.publish(message.PausePublication) }

// Unpause ends Pause.
func (g *Gateway) Unpause() { g.publish(message.StartPublication) }

func (g *Gateway) publish(t message.Type) {
	for _, s := range g.all() {
		s.toAgent(control(t))
	}
}

// EndSessions ends all sessions as their agents do when they fail, with this text for the
// user.
func (g *Gateway) EndSessions(output string) {
	for _, s := range g.all() {
		s.end(output)
	}
}
