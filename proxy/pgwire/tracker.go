package pgwire

import (
	"encoding/binary"
	"math"
	"sync/atomic"
)

// header is the beginning of a message, as far as it has come.
type header struct {
	raw  [HeaderSize]byte
	have int
}

// fill copies what is missing from b, and returns the rest of b.
func (h *header) fill(b []byte) []byte {
	n := copy(h.raw[h.have:], b)
	h.have += n
	return b[n:]
}

func (h *header) kind() byte { return h.raw[0] }

// bodySize returns the size of the message's body. It is not ok for a length that no
// server or client accepts.
func (h *header) bodySize() (size int, ok bool) {
	length := binary.BigEndian.Uint32(h.raw[1:]) // counts itself, not the type
	if length < 4 || length > math.MaxInt32 {
		return 0, false
	}
	return int(length) - 4, true
}

// terminateMessage is a whole Terminate.
const terminateMessage = "X\x00\x00\x00\x04"

// FrontendTracker follows the client's messages by their headers alone. Its zero value is
// at the beginning of a session.
type FrontendTracker struct {
	header header // of the current message
	rest   int    // of its body

	requests  int64 // messages that a ReadyForQuery answers
	needsSync bool  // messages followed the last of those, and may have an effect
	lost      bool  // the stream is not tracked from here on
}

// Scan follows b, and reports whether b is a Terminate and nothing else, as a client sends
// it that has read all answers. A Terminate in pieces, or with bytes before or after it,
// ends the tracking.
func (t *FrontendTracker) Scan(b []byte) (terminate bool) {
	for rest := b; len(rest) > 0 && !t.lost; {
		switch {
		case t.rest > 0:
			n := min(t.rest, len(rest))
			t.rest -= n
			rest = rest[n:]
		case t.header.have == 0 && rest[0] == Terminate:
			terminate = string(b) == terminateMessage
			t.lost = !terminate
			return terminate
		default:
			rest = t.header.fill(rest)
			t.begin()
		}
	}
	return false
}

// Stop ends the tracking.
func (t *FrontendTracker) Stop() { t.lost = true }

// Requests returns how many messages came that a ReadyForQuery answers.
func (t *FrontendTracker) Requests() int64 { return t.requests }

// begin classifies a message whose header is whole.
func (t *FrontendTracker) begin() {
	if t.header.have < HeaderSize {
		return
	}
	size, ok := t.header.bodySize()
	t.rest, t.lost = size, !ok
	t.header.have = 0
	switch t.header.kind() {
	case Query, Sync, FunctionCall:
		t.requests++
		t.needsSync = false
	case CopyData, CopyDone, CopyFail: // outside COPY the server ignores them (PostgresMain in its postgres.c)
	case Flush: // requests nothing: the server sends what it has
		t.needsSync = t.needsSync || size > 0
	default:
		t.needsSync = true
	}
}

// maxParameterStatus is the maximum number of bytes of a ParameterStatus that is kept.
const maxParameterStatus = 16 << 10

// BackendTracker follows the server's messages. It reads the bodies of ReadyForQuery and
// ParameterStatus only. NewBackendTracker makes one.
type BackendTracker struct {
	onStatus func(Message) bool

	header header
	rest   int    // of the body
	body   []byte // of a message that is read, as far as it has come, after its header

	ready  atomic.Int64 // ReadyForQuery so far; may be read at any time
	status byte         // of the last of them: 'I' outside a transaction
	last   byte         // type of the last message but for asynchronous ones
	failed bool         // an ErrorResponse came
	lost   bool         // the stream is not tracked from here on
}

// NewBackendTracker returns the tracker of a connection whose login has ended with
// ReadyForQuery. It calls onStatus with each ParameterStatus, whose memory is the
// tracker's; false ends the tracking. onStatus may be nil.
func NewBackendTracker(onStatus func(Message) bool) *BackendTracker {
	return &BackendTracker{onStatus: onStatus, last: ReadyForQuery, status: 'I'}
}

// Scan follows b.
func (t *BackendTracker) Scan(b []byte) {
	for len(b) > 0 && !t.lost {
		if t.header.have < HeaderSize {
			if b = t.header.fill(b); t.header.have < HeaderSize {
				return
			}
			t.begin()
		}
		n := min(t.rest, len(b))
		if t.reads() {
			t.body = append(t.body, b[:n]...)
		}
		t.rest -= n
		b = b[n:]
		if t.rest == 0 && !t.lost {
			t.end()
		}
	}
}

// Reset starts the counts of ReadyForQuery and ErrorResponse anew.
func (t *BackendTracker) Reset() {
	t.ready.Store(0)
	t.failed = false
}

// Ready returns how many ReadyForQuery came since Reset. It may be called at any time.
func (t *BackendTracker) Ready() int64 { return t.ready.Load() }

// Failed reports whether an ErrorResponse came since Reset.
func (t *BackendTracker) Failed() bool { return t.failed }

// Lost reports whether the stream is not tracked any more.
func (t *BackendTracker) Lost() bool { return t.lost }

// Idle reports whether the server waits for the next request, outside a transaction, and
// all its messages are whole.
func (t *BackendTracker) Idle() bool {
	return !t.lost && t.header.have == 0 && t.last == ReadyForQuery && t.status == 'I'
}

// reads reports whether the current message's body is read.
func (t *BackendTracker) reads() bool {
	return t.header.kind() == ReadyForQuery || t.header.kind() == ParameterStatus
}

// begin classifies a message by its header.
func (t *BackendTracker) begin() {
	size, ok := t.header.bodySize()
	t.rest, t.lost = size, !ok
	t.body = append(t.body[:0], t.header.raw[:]...)
	switch kind := t.header.kind(); kind {
	case NoticeResponse, NotificationResponse:
	case ParameterStatus:
		t.lost = t.lost || size > maxParameterStatus
	case ReadyForQuery:
		t.last = kind
		t.lost = t.lost || size != 1
	case ErrorResponse:
		t.last = kind
		t.failed = true
	default:
		t.last = kind
	}
}

// end acts on a whole message.
func (t *BackendTracker) end() {
	t.header.have = 0
	switch t.header.kind() {
	case ReadyForQuery:
		t.status = t.body[HeaderSize]
		t.ready.Add(1)
	case ParameterStatus:
		if t.onStatus != nil {
			t.lost = !t.onStatus(Message(t.body))
		}
	}
}

// BusyReason returns why a session is not idle, or "": then the server has answered all
// requests, and neither side is in the middle of a message. Where it cannot be known, as
// with a Sync within COPY, the session is busy.
func BusyReason(client *FrontendTracker, server *BackendTracker) string {
	switch {
	case client.lost || server.lost:
		return "the messages are not those of the protocol as it is known"
	case client.requests != server.Ready():
		return "requests were in flight"
	case client.needsSync:
		return "requests were not synced"
	case server.status != 'I':
		return "a transaction was open"
	case client.header.have > 0 || client.rest > 0 || !server.Idle():
		return "the server had more to send"
	default:
		return ""
	}
}
