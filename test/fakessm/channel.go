package fakessm

import (
	"errors"
	"time"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm/message"
)

const (
	// maxEarly limits the messages that the agent holds until earlier ones arrive.
	maxEarly = 100_000
	// maxUnacked is the number of messages without an acknowledgement at which the agent
	// waits. The real agent has 100,000, and forgets later ones.
	maxUnacked = 10_000
)

// receive processes the messages of the client in the order of their arrival. An agent that
// cannot write its data blocks the client, as the real one does.
func (a *agent) receive() {
	for {
		select {
		case b := <-a.up:
			if m, err := message.Parse(b); err == nil {
				a.handle(m)
			}
		case <-a.ctx.Done():
			return
		}
	}
}

func (a *agent) handle(m message.Message) {
	switch m.Type {
	case message.InputStreamData:
		a.setPaused(false)
		a.handleData(m)
	case message.Acknowledge:
		a.setPaused(false)
		if ack, ok := decode[message.Acknowledgement](m.Payload); ok {
			a.acknowledged(ack.SequenceNumber)
		}
	case message.PausePublication:
		a.setPaused(true)
	case message.StartPublication:
		a.setPaused(false)
	}
}

// handleData acknowledges a message that it has processed, holds, or has processed before. It
// acknowledges the handshake's response first: AWS's plugin ends its reader if a message
// arrives while it prepares for connections, after the handshake is complete.
func (a *agent) handleData(m message.Message) {
	switch {
	case m.SequenceNumber < a.expected:
		a.acknowledge(&m)
	case m.SequenceNumber > a.expected:
		if len(a.early) < maxEarly {
			a.acknowledge(&m)
			a.early[m.SequenceNumber] = m
		}
	case m.PayloadType == message.HandshakeResponse:
		a.acknowledge(&m)
		a.handleResponse(&m)
		a.advance()
	case a.process(&m) == nil:
		a.acknowledge(&m)
		a.advance()
	}
}

// advance processes the messages that were held for the one that is processed now.
func (a *agent) advance() {
	for {
		a.expected++
		next, has := a.early[a.expected]
		if !has || a.process(&next) != nil {
			return
		}
		delete(a.early, a.expected)
	}
}

// handleResponse passes the response on to handshake.
func (a *agent) handleResponse(m *message.Message) {
	if response, ok := decode[message.HandshakeResponsePayload](m.Payload); ok {
		select {
		case a.response <- response:
		default: // a second one
		}
	}
}

// errNotReady is the error of data before the plugin has started. The client sends it again.
var errNotReady = errors.New("not ready")

// process processes a message in its turn. Data during the handshake is ignored.
func (a *agent) process(m *message.Message) error {
	if m.PayloadType == message.HandshakeResponse {
		a.handleResponse(m)
		return nil
	}
	a.mu.Lock()
	ready, p := a.ready, a.port
	a.mu.Unlock()
	switch {
	case !ready:
		return nil
	case p == nil:
		return errNotReady
	}
	a.active()
	switch m.PayloadType {
	case message.Output:
		if err := p.receive(m.Payload); err != nil {
			return err
		}
		a.gateway.count(func(c *Counts) { c.BytesUp += int64(len(m.Payload)) })
	case message.Flag:
		switch flag, _ := message.ParseFlag(m.Payload); flag {
		case message.DisconnectToPort:
			p.disconnect()
		case message.TerminateSession:
			a.gateway.count(func(c *Counts) { c.TerminateFlags++ })
			a.acknowledge(m)
			a.end("")
		}
	}
	return nil
}

func (a *agent) acknowledge(m *message.Message) {
	a.toClient(message.NewAcknowledge(m, time.Now()).Append(nil))
}

// acknowledged forgets a message of the agent, and measures the round trip.
func (a *agent) acknowledged(sequence int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, s := range a.unacked {
		if s.sequence == sequence {
			a.measure(time.Since(s.at))
			a.unacked = append(a.unacked[:i], a.unacked[i+1:]...)
			a.changed.Broadcast()
			return
		}
	}
}

// measure adapts the timeout of a message to a round trip.
func (a *agent) measure(roundTrip time.Duration) {
	difference := a.rtt - roundTrip
	a.rttvar += (max(difference, -difference) - a.rttvar) / 4
	a.rtt += (roundTrip - a.rtt) / 8
	a.timeout = min(a.rtt+max(granularity, 4*a.rttvar), maxTimeout)
}

func (a *agent) setPaused(paused bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.paused != paused {
		a.paused = paused
		a.changed.Broadcast()
	}
}

// waitToSend waits until the agent may read data to send, or the session ends.
func (a *agent) waitToSend() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.ctx.Err() == nil && (a.paused || len(a.unacked) >= maxUnacked) {
		a.changed.Wait()
	}
}

// send sends a message with the next sequence number. A paused agent sends it later.
func (a *agent) send(t message.PayloadType, payload []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := message.Message{Type: message.OutputStreamData, Created: time.Now(), SequenceNumber: a.sequence, ID: message.NewID(), PayloadType: t, Payload: payload}
	if a.sequence == 0 {
		m.Flags = message.SYN
	}
	s := &sent{a.sequence, m.Append(nil), time.Now()}
	a.sequence++
	a.unacked = append(a.unacked, s)
	if !a.paused {
		a.toClient(s.content)
	}
	if t == message.Output {
		a.gateway.count(func(c *Counts) { c.BytesDown += int64(len(payload)) })
		a.active()
	}
}

// resend sends the oldest message again when its acknowledgement is late, and no other.
func (a *agent) resend() {
	ticker := time.NewTicker(resendInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			a.resendOldest()
		case <-a.ctx.Done():
			return
		}
	}
}

func (a *agent) resendOldest() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.paused || len(a.unacked) == 0 {
		return
	}
	if oldest := a.unacked[0]; time.Since(oldest.at) > a.timeout {
		a.toClient(oldest.content)
		oldest.at = time.Now()
		a.gateway.count(func(c *Counts) { c.Resent++ })
	}
}

// waitForAcknowledgements waits for at most d until the client has all.
func (a *agent) waitForAcknowledgements(d time.Duration) {
	over := false
	timer := time.AfterFunc(d, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		over = true
		a.changed.Broadcast()
	})
	defer timer.Stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.ctx.Err() == nil && !over && len(a.unacked) > 0 {
		a.changed.Wait()
	}
}
