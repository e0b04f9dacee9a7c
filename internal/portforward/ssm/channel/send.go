package channel

import (
	"context"
	"encoding/json"
	"time"

	"github.com/coder/websocket"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm/message"
)

const (
	// window limits the messages that are sent and not acknowledged.
	window = 512
	// maxAhead limits how far a message may be ahead of the oldest one that is not
	// acknowledged. AWS's agent and client keep 10,000 messages for this.
	maxAhead = 8192
	// maxUnsent limits the messages that wait for the window.
	maxUnsent = 64
	// maxAcks limits the acknowledgements that wait to be sent. Without one, the agent
	// repeats its message.
	maxAcks = 4096
	// reordered is how much later a message is sent whose acknowledgement shows that another
	// one was lost.
	reordered = 3

	// The time without an acknowledgement after which the oldest message is repeated. It is
	// longer than maxResend, up to slowResend, if acknowledgements take longer: on a slow
	// uplink, all messages would be sent twice.
	minResend, maxResend, slowResend = 200 * time.Millisecond, time.Second, 10 * time.Second
)

// outgoing is a message of data to the agent.
type outgoing struct {
	payloadType message.PayloadType
	b           []byte // the header, empty before the first time, and the payload
	sentAt      time.Time
	order       uint64 // of the last time, among all messages; 0 before the first time
	attempts    int
	acked, lost bool
}

// sender has the state of sending. Its methods are called with the channel's mutex.
type sender struct {
	// queue has the messages from the oldest that is not acknowledged. The first one has
	// the sequence number base, and the first sent ones were sent.
	queue []*outgoing
	base  int64
	sent  int

	unacked int // sent and not acknowledged
	// progress is when a message was acknowledged, or the first one was sent.
	progress time.Time
	bytes    int // payload of all that is not acknowledged
	lost     int // sent, and to be repeated at once
	order    uint64
	paused   bool // the agent does not receive
	acks     []message.Message

	// The round trip as RFC 6298 and AWS's client smooth it, or 0 before the first one.
	roundTrip, variation time.Duration
	total                uint64 // payload of data that was sent
}

// add appends a message to the queue.
func (s *sender) add(t message.PayloadType, payload []byte) {
	b := make([]byte, message.HeaderSize, message.HeaderSize+max(len(payload), message.MaxPayload))
	s.queue = append(s.queue, &outgoing{payloadType: t, b: append(b, payload...)})
	s.bytes += len(payload)
}

// addData appends data as far as there is room, and returns how much. Data is added to the last
// message if that was not sent.
func (s *sender) addData(p []byte) int {
	n := 0
	for n < len(p) {
		last := len(s.queue) - 1
		if last < s.sent || s.queue[last].payloadType != message.Output || len(s.queue[last].b) == message.HeaderSize+message.MaxPayload {
			if len(s.queue)-s.sent >= maxUnsent {
				break
			}
			s.add(message.Output, nil)
			last++
		}
		m := s.queue[last]
		size := min(len(p)-n, message.HeaderSize+message.MaxPayload-len(m.b))
		m.b = append(m.b, p[n:n+size]...)
		s.bytes += size
		n += size
	}
	s.total += uint64(n)
	return n
}

// next returns the message that is to be sent now, or nil and the time until one has to be
// repeated.
func (s *sender) next(now time.Time) (*outgoing, time.Duration) {
	if s.lost > 0 {
		for _, m := range s.queue[:s.sent] {
			if m.lost {
				m.lost = false
				s.lost--
				return s.stamp(m, now), 0
			}
		}
	}
	limit := window
	if s.paused {
		limit = 1
	}
	if s.sent < len(s.queue) && s.unacked < limit && s.sent < maxAhead {
		m := s.queue[s.sent]
		header := message.Message{
			Type: message.InputStreamData, Created: now, SequenceNumber: s.base + int64(s.sent), ID: message.NewID(), PayloadType: m.payloadType,
		}
		header.PutHeader(m.b)
		if s.unacked == 0 {
			s.progress = now
		}
		s.sent++
		s.unacked++
		return s.stamp(m, now), 0
	}
	if s.sent == 0 {
		return nil, 0
	}
	oldest := s.queue[0]
	wait := oldest.sentAt.Add(s.resendAfter(oldest.attempts)).Sub(now)
	if wait <= 0 {
		return s.stamp(oldest, now), 0
	}
	return nil, wait
}

func (s *sender) stamp(m *outgoing, now time.Time) *outgoing {
	s.order++
	m.order, m.sentAt = s.order, now
	m.attempts++
	return m
}

// resendAfter returns how long an acknowledgement is waited for. It doubles with each attempt.
func (s *sender) resendAfter(attempts int) time.Duration {
	after := min(max(s.roundTrip+max(4*s.variation, 10*time.Millisecond), minResend), slowResend)
	limit := max(after, maxResend)
	for ; attempts > 1 && after < limit; attempts-- {
		after *= 2
	}
	return min(after, limit)
}

// acknowledge handles the acknowledgement of a message.
func (s *sender) acknowledge(sequence int64, now time.Time) {
	i := sequence - s.base
	if i < 0 || i >= int64(s.sent) || s.queue[i].acked {
		return
	}
	m := s.queue[i]
	m.acked, s.progress = true, now
	s.unacked--
	s.bytes -= len(m.b) - message.HeaderSize
	if m.lost {
		m.lost = false
		s.lost--
	}
	if m.attempts == 1 { // else it is unknown which one was acknowledged
		s.measure(now.Sub(m.sentAt))
	}
	others := s.queue[:i]
	if m.attempts > 1 && now.Sub(m.sentAt) >= s.roundTrip/2 { // else it is likely for an earlier attempt
		others = s.queue[:s.sent]
	}
	for _, other := range others {
		if !other.acked && !other.lost && other.order+reordered <= m.order {
			other.lost = true
			s.lost++
		}
	}
	m.b = nil
	popped := 0
	for popped < s.sent && s.queue[popped].acked {
		s.queue[popped] = nil
		popped++
	}
	s.queue, s.base, s.sent = s.queue[popped:], s.base+int64(popped), s.sent-popped
}

// measure takes a round trip into account.
func (s *sender) measure(roundTrip time.Duration) {
	roundTrip = max(roundTrip, time.Microsecond) // 0 is unknown
	if s.roundTrip == 0 {
		s.roundTrip, s.variation = roundTrip, roundTrip/2
		return
	}
	s.variation += ((s.roundTrip - roundTrip).Abs() - s.variation) / 4
	s.roundTrip += (roundTrip - s.roundTrip) / 8
}

// resume makes all messages be repeated that were sent and are not acknowledged.
func (s *sender) resume() {
	s.paused, s.acks = false, nil
	for _, m := range s.queue[:s.sent] {
		if !m.acked && !m.lost {
			m.lost = true
			s.lost++
		}
	}
}

// sendTo sends to a WebSocket until that fails or ctx is done.
func (c *Channel) sendTo(ctx context.Context, socket Socket, token string) error {
	open, err := json.Marshal(message.OpenChannel{
		MessageSchemaVersion: "1.0", RequestID: message.NewID().String(), TokenValue: token,
		ClientID: c.clientID, ClientVersion: c.config.ClientVersion,
	})
	if err != nil {
		return err
	}
	background := context.Background() // calls without a context that can end are cheaper; CloseNow ends them
	if err := socket.Write(background, websocket.MessageText, open); err != nil {
		return err
	}
	var acks []message.Message
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		c.mu.Lock()
		acks, c.send.acks = c.send.acks, acks[:0]
		wasIdle := c.send.unacked == 0
		m, wait := c.send.next(now)
		var b []byte
		if m != nil {
			b = m.b
		}
		c.mu.Unlock()
		for i := range acks {
			if err := socket.Write(background, websocket.MessageBinary, message.NewAcknowledge(&acks[i], now).Append(nil)); err != nil {
				return err
			}
		}
		if m != nil {
			if wasIdle {
				signal(c.busy)
			}
			signal(c.writable)
			if err := socket.Write(background, websocket.MessageBinary, b); err != nil {
				return err
			}
			continue
		}
		var due <-chan time.Time
		if wait > 0 {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-c.work:
		case <-due:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}
