package channel

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm/message"
)

const (
	// maxMessage limits the bytes of a message. The agent's have about 1,150.
	maxMessage = 64 << 10
	// maxBuffered limits the data that waits for Read. Then nothing is received.
	maxBuffered = 256 << 10
	// keptBuffer is the size of a buffer that is kept while it is empty.
	keptBuffer = 64 << 10
	// maxEarly and maxEarlyBytes limit the messages that are kept until an earlier one
	// arrives. Further messages are not acknowledged, so that the agent repeats them.
	maxEarly, maxEarlyBytes = 10000, 16 << 20
)

// receiver has the state of receiving.
type receiver struct {
	expected   int64 // the sequence number of the next message
	early      map[int64]message.Message
	earlyBytes int
	handshake  bool // the agent has begun the handshake
	total      uint64
}

// receiveFrom receives from a WebSocket until that fails or ctx is done. An error of the session
// ends the channel.
func (c *Channel) receiveFrom(ctx context.Context, socket Socket) error {
	buffer := make([]byte, maxMessage+1)
	for {
		_, reader, err := socket.Reader(context.Background()) // CloseNow ends it
		if err != nil {
			return err
		}
		n, err := io.ReadFull(reader, buffer)
		switch {
		case err == nil:
			return errors.New("message is too long")
		case err != io.EOF && err != io.ErrUnexpectedEOF: //nolint:errorlint // of io.ReadFull
			return err
		}
		c.heard(1)
		m, err := message.Parse(buffer[:n])
		if err != nil {
			continue // as AWS's client; the agent repeats it
		}
		if err := c.handle(ctx, socket, m); err != nil {
			c.stop(err)
			return err
		}
	}
}

// handle handles a message. An error ends the channel.
func (c *Channel) handle(ctx context.Context, socket Socket, m message.Message) error {
	switch m.Type {
	case message.OutputStreamData:
		return c.handleData(ctx, socket, m)
	case message.Acknowledge:
		var ack message.Acknowledgement
		if json.Unmarshal(m.Payload, &ack) == nil {
			c.setPaused(false)
			c.mu.Lock()
			c.send.acknowledge(ack.SequenceNumber, time.Now())
			c.mu.Unlock()
			signal(c.work)
			signal(c.acked)
		}
	case message.ChannelClosed:
		var closed message.ChannelClosedPayload
		json.Unmarshal(m.Payload, &closed) //nolint:errcheck // the cause is optional
		return &EndedError{closed.Output}
	case message.PausePublication:
		c.setPaused(true)
	case message.StartPublication:
		c.setPaused(false)
	}
	return nil
}

// setPaused sets whether the agent does not receive. AWS's agent does the same with a client
// that does not: it takes each message as a sign that it does.
func (c *Channel) setPaused(paused bool) {
	c.mu.Lock()
	changed := c.send.paused != paused
	c.send.paused = paused
	c.mu.Unlock()
	if changed {
		signal(c.work)
	}
}

// handleData puts messages of the agent in order, and acknowledges those that are kept.
func (c *Channel) handleData(ctx context.Context, socket Socket, m message.Message) error {
	c.setPaused(false)
	c.mu.Lock()
	r := &c.received
	expected := r.expected
	_, known := r.early[m.SequenceNumber]
	keep := m.SequenceNumber > expected && !known
	if keep && (m.SequenceNumber-expected > c.config.maxEarly || r.earlyBytes+len(m.Payload) > maxEarlyBytes) {
		c.mu.Unlock()
		return nil
	}
	if len(c.send.acks) < maxAcks {
		c.send.acks = append(c.send.acks, message.Message{Type: m.Type, SequenceNumber: m.SequenceNumber, ID: m.ID})
	}
	if keep {
		if r.early == nil {
			r.early = map[int64]message.Message{}
		}
		m.Payload = append([]byte(nil), m.Payload...) // it is in the buffer that is read into
		r.early[m.SequenceNumber] = m
		r.earlyBytes += len(m.Payload)
	}
	c.mu.Unlock()
	signal(c.work)
	if m.SequenceNumber != expected {
		return nil
	}
	for found := true; found; {
		if err := c.deliver(ctx, socket, m); err != nil {
			return err
		}
		c.mu.Lock()
		r.expected++
		if m, found = r.early[r.expected]; found {
			delete(r.early, r.expected)
			r.earlyBytes -= len(m.Payload)
		}
		c.mu.Unlock()
	}
	return nil
}

// deliver handles the next message of the agent.
func (c *Channel) deliver(ctx context.Context, socket Socket, m message.Message) error {
	switch m.PayloadType {
	case message.HandshakeRequest:
		return c.answerHandshake(socket, m.Payload)
	case message.HandshakeComplete:
		c.complete()
	case message.EncryptionChallenge:
		return &ActionError{Action: message.KMSEncryption}
	case message.Output:
		return c.deliverData(ctx, m.Payload)
	case message.Flag:
		if flag, err := message.ParseFlag(m.Payload); err == nil && c.config.Flag != nil {
			c.config.Flag(flag)
		}
	}
	return nil
}

// deliverData gives data to Read. It waits for room, so that the agent cannot fill the memory;
// no message is received meanwhile.
func (c *Channel) deliverData(ctx context.Context, payload []byte) error {
	c.mu.Lock()
	if !c.received.handshake {
		c.mu.Unlock()
		return ErrNoHandshake
	}
	for c.in.Len()+len(payload) > maxBuffered {
		if c.link.blocked.IsZero() {
			c.link.blocked = time.Now()
		}
		c.mu.Unlock()
		select {
		case <-c.drained:
		case <-ctx.Done():
			// The message was acknowledged, and may not come again.
		}
		c.mu.Lock()
		if ctx.Err() != nil {
			break
		}
	}
	c.in.Write(payload)
	c.received.total += uint64(len(payload))
	c.mu.Unlock()
	c.heard(0)
	signal(c.readable)
	return nil
}
