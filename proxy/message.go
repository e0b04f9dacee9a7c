package proxy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/internal/text"
)

// maxLogin is the most bytes that the server may say in one message, or before
// it takes the token, until the session starts. libpq's own limit for most of
// what comes then is 30,000.
const maxLogin = 1 << 20

// message is one of the server's messages as it came: type, length, body.
type message struct{ raw []byte }

func (m message) kind() byte   { return m.raw[0] }
func (m message) body() []byte { return m.raw[5:] }

// readMessage reads one whole message and not a byte more. pgproto3's readers
// would read ahead, and what they hold would be lost when the streams are
// spliced.
func readMessage(r io.Reader) (message, error) {
	var header [5]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return message{}, err
	}
	length := int32(binary.BigEndian.Uint32(header[1:])) // counts itself, not the type
	if length < 4 || length > maxLogin {
		return message{}, &fatalError{
			Code:    protocolViolation,
			Message: fmt.Sprintf("the server sent a message of type %q with the length %d during login", header[0], length),
		}
	}
	raw := make([]byte, 1+length)
	copy(raw, header[:])
	_, err := io.ReadFull(r, raw[len(header):])
	return message{raw}, err
}

// serverError is the server's refusal of a login. It goes to the client as it
// came, but for a hint.
type serverError struct {
	raw       message
	said      pgproto3.ErrorResponse
	before    []byte // what the server had said until then
	tokenSent bool   // it is the answer to a token
	hint      string // to be added; may be empty
}

func newServerError(raw message, tokenSent bool) error {
	e := &serverError{raw: raw, tokenSent: tokenSent}
	if err := e.said.Decode(raw.body()); err != nil {
		return &fatalError{Code: protocolViolation, Message: "the server sent an error that cannot be read", Err: err}
	}
	if e.said.Code == "" {
		return &fatalError{Code: protocolViolation, Message: "the server sent an error without a code"}
	}
	return e
}

func (e *serverError) Error() string {
	return fmt.Sprintf("the server said: %s (SQLSTATE %s)", text.OneLine(e.said.Message), e.said.Code)
}

// refusedToken reports whether it was the token that was not taken: class 28
// (invalid authorization specification) as the answer to it.
func (e *serverError) refusedToken() bool {
	return e.tokenSent && strings.HasPrefix(e.said.Code, "28")
}

// withHint is the message with one more field, if it has no hint of its own.
// https://www.postgresql.org/docs/current/protocol-error-fields.html
func (e *serverError) withHint() []byte {
	fields, terminated := bytes.CutSuffix(e.raw.raw, []byte{0})
	if e.hint == "" || e.said.Hint != "" || !terminated {
		return e.raw.raw
	}
	b := append(bytes.Clone(fields), 'H')
	b = append(b, text.OneLine(e.hint)...)
	b = append(b, 0, 0)
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-1))
	return b
}
