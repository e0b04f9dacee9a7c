// Package pgwire reads and writes the parts of PostgreSQL's wire protocol that a proxy
// needs: startup packets, messages during a login, and where a stream's messages begin
// and end. It never reads a byte ahead. It also has the errors that clients are sent.
//
// https://www.postgresql.org/docs/current/protocol.html
package pgwire

import (
	"encoding/binary"
	"io"
	"iter"
)

// The types of messages.
// https://www.postgresql.org/docs/current/protocol-message-formats.html
const (
	// From the server.
	Authentication       = 'R'
	BackendKeyData       = 'K'
	DataRow              = 'D'
	ErrorResponse        = 'E'
	NoticeResponse       = 'N'
	NotificationResponse = 'A'
	ParameterStatus      = 'S'
	ReadyForQuery        = 'Z'

	// From the client.
	CopyData     = 'd'
	CopyDone     = 'c'
	CopyFail     = 'f'
	Flush        = 'H'
	FunctionCall = 'F'
	Query        = 'Q'
	Sync         = 'S'
	Terminate    = 'X'
)

// HeaderSize is the number of bytes of a message's type and length.
const HeaderSize = 5

// MaxLogin is the maximum size, in bytes, of one message of the server during a login, and of
// all of them. libpq's limit for most of these messages is 30,000 (pqParseInput3 in its
// fe-protocol3.c).
const MaxLogin = 1 << 20

// MaxCancelKey is the maximum number of bytes of a cancel key's secret (protocol 3.2).
// https://www.postgresql.org/docs/current/protocol-message-formats.html
const MaxCancelKey = 256

// Message is one whole message of the server: type, length and body, as they came.
type Message []byte

// Type returns the message's type.
func (m Message) Type() byte { return m[0] }

// Body returns what follows the length. It is not a copy.
func (m Message) Body() []byte { return m[HeaderSize:] }

// ReadMessage reads one message of the server during a login, and not a byte more. pgproto3's
// readers read ahead; their buffered data would be lost when the streams are relayed. The
// error is that of r, or an *Error for a length that no message has.
func ReadMessage(r io.Reader) (Message, error) {
	var header [HeaderSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	length := int32(binary.BigEndian.Uint32(header[1:])) // counts itself, not the type
	if length < 4 || length > MaxLogin {
		return nil, NewError(MessageInvalid, nil, header[0], length)
	}
	m := make(Message, 1+length)
	copy(m, header[:])
	_, err := io.ReadFull(r, m[HeaderSize:])
	return m, err
}

// Messages returns the messages in b, which must be whole, and where each begins.
func Messages(b []byte) iter.Seq2[int, Message] {
	return func(yield func(int, Message) bool) {
		for at := 0; at < len(b); {
			end := at + 1 + int(binary.BigEndian.Uint32(b[at+1:]))
			if !yield(at, Message(b[at:end])) {
				return
			}
			at = end
		}
	}
}

// IsCancelKey reports whether key, the body of a BackendKeyData, is one that a client can
// send in a CancelRequest: a process ID and a secret of up to MaxCancelKey bytes.
func IsCancelKey(key []byte) bool { return len(key) > 4 && len(key) <= 4+MaxCancelKey }

// Encode encodes a message of pgproto3. It cannot fail: pgproto3 only rejects messages of
// over 1 GB.
func Encode(message interface {
	Encode(dst []byte) ([]byte, error)
}) []byte {
	b, _ := message.Encode(nil)
	return b
}
