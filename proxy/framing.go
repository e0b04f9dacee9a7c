package proxy

import (
	"encoding/binary"
	"math"
	"sync/atomic"
)

// The types of the client's messages that matter to whether its connection can be
// kept. https://www.postgresql.org/docs/current/protocol-message-formats.html
const (
	query               = 'Q'
	syncMessage         = 'S'
	functionCall        = 'F'
	copyData            = 'd'
	copyDone            = 'c'
	copyFail            = 'f'
	terminate           = 'X'
	notificationMessage = 'A'
)

// headerSize is that of a message's type and length.
const headerSize = 5

// header is the beginning of a message, as far as it has come.
type header struct {
	raw  [headerSize]byte
	have int
}

// take takes what is missing from b, and returns what is behind it.
func (h *header) take(b []byte) []byte {
	n := copy(h.raw[h.have:], b)
	h.have += n
	return b[n:]
}

func (h *header) kind() byte { return h.raw[0] }

// bodySize is that of the message's body. A length that no server or client would
// take is not ok.
func (h *header) bodySize() (size int, ok bool) {
	length := binary.BigEndian.Uint32(h.raw[1:]) // counts itself, not the type
	if length < 4 || length > math.MaxInt32 {
		return 0, false
	}
	return int(length) - 4, true
}

// clientFraming follows what a client says from message to message, by the
// messages' headers alone.
type clientFraming struct {
	header header // of the message that is going up
	rest   int    // of its body

	asked    int64 // requests that a ReadyForQuery is the answer to
	unsynced bool  // something came behind the last of those, which may have it act
	lost     bool  // no more is known from here on
}

// scan follows b, and reports whether that is a Terminate and nothing else, as a
// client says it that has had all its answers. With one that comes otherwise, in
// pieces or with something before or behind it, the client's messages end.
func (f *clientFraming) scan(b []byte) (leaves bool) {
	for rest := b; len(rest) > 0 && !f.lost; {
		switch {
		case f.rest > 0:
			n := min(f.rest, len(rest))
			f.rest -= n
			rest = rest[n:]
		case f.header.have == 0 && rest[0] == terminate:
			leaves = string(b) == "X\x00\x00\x00\x04"
			f.lost = !leaves
			return leaves
		default:
			rest = f.header.take(rest)
			f.begin()
		}
	}
	return false
}

// begin looks at a message's header if that is whole.
func (f *clientFraming) begin() {
	if f.header.have < headerSize {
		return
	}
	size, ok := f.header.bodySize()
	f.rest, f.lost = size, !ok
	f.header.have = 0
	switch f.header.kind() {
	case query, syncMessage, functionCall:
		f.asked++
		f.unsynced = false
	case copyData, copyDone, copyFail: // outside COPY the server ignores them (PostgresMain in its postgres.c)
	default:
		f.unsynced = true
	}
}

// maxStatus is the most bytes of a ParameterStatus that is taken note of.
const maxStatus = 16 << 10

// serverFraming follows what a server says from message to message. Of all bodies
// it reads those of ReadyForQuery and ParameterStatus.
type serverFraming struct {
	// noteStatus is given each ParameterStatus, and reports whether it could be
	// noted. If nil, they are not of interest.
	noteStatus func(message) bool

	header header
	rest   int    // of the body
	body   []byte // of a message that is read, as far as it has come, behind its header

	ready  atomic.Int64 // ReadyForQuery so far; it may be read at any time
	status byte         // of the last of them: 'I' outside a transaction
	last   byte         // type of the last message but for those that may come at any time
	failed bool         // an ErrorResponse came
	lost   bool         // no more is known from here on
}

// scan takes note of what comes next.
func (f *serverFraming) scan(b []byte) {
	for len(b) > 0 && !f.lost {
		if f.header.have < headerSize {
			if b = f.header.take(b); f.header.have < headerSize {
				return
			}
			f.begin()
		}
		n := min(f.rest, len(b))
		if f.reads() {
			f.body = append(f.body, b[:n]...)
		}
		f.rest -= n
		b = b[n:]
		if f.rest == 0 && !f.lost {
			f.end()
		}
	}
}

// reads reports whether the message is one whose body is read.
func (f *serverFraming) reads() bool {
	return f.header.kind() == readyForQuery || f.header.kind() == parameterStatus
}

// begin looks at a message's header.
func (f *serverFraming) begin() {
	size, ok := f.header.bodySize()
	f.rest, f.lost = size, !ok
	f.body = append(f.body[:0], f.header.raw[:]...)
	switch kind := f.header.kind(); kind {
	case noticeResponse, notificationMessage:
	case parameterStatus:
		f.lost = f.lost || size > maxStatus
	case readyForQuery:
		f.last = kind
		f.lost = f.lost || size != 1
	case errorResponse:
		f.last = kind
		f.failed = true
	default:
		f.last = kind
	}
}

// end is that of a message.
func (f *serverFraming) end() {
	f.header.have = 0
	switch f.header.kind() {
	case readyForQuery:
		f.status = f.body[headerSize]
		f.ready.Add(1)
	case parameterStatus:
		if f.noteStatus != nil {
			f.lost = !f.noteStatus(message{f.body})
		}
	}
}

// idle reports whether the server waits for the next request, outside a
// transaction, and all that it has said is whole.
func (f *serverFraming) idle() bool {
	return !f.lost && f.header.have == 0 && f.last == readyForQuery && f.status == 'I'
}

// unrest is why the two are not at rest, or empty: then the server has answered all
// that the client has asked, and neither of them is in the middle of anything. Where
// it cannot be told, as with a Sync within COPY, they are not.
func unrest(client *clientFraming, server *serverFraming) string {
	switch {
	case client.lost || server.lost:
		return "what was said is not the protocol as it is known here"
	case client.asked != server.ready.Load():
		return "requests were in flight"
	case client.unsynced:
		return "requests were not synced"
	case server.status != 'I':
		return "a transaction was open"
	case client.header.have > 0 || client.rest > 0 || !server.idle():
		return "the server had more to say"
	default:
		return ""
	}
}
