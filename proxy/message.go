package proxy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// maxLoginMessage is the most bytes a message may have that has to be held or
// read whole before a session starts. libpq's own limit is 30,000.
const maxLoginMessage = 64 << 10

// message is one of the server's messages as it came: type, length, body.
type message struct{ raw []byte }

func (m message) kind() byte   { return m.raw[0] }
func (m message) body() []byte { return m.raw[5:] }

// readHeader reads a message's type and length and not a byte of its body, of
// which it returns the size. pgproto3's readers would read ahead, and what they
// hold would be lost when the streams are spliced.
func readHeader(r io.Reader) (header [5]byte, size int64, err error) {
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return header, 0, err
	}
	length := int64(int32(binary.BigEndian.Uint32(header[1:])))
	if length < 4 {
		return header, 0, &Error{
			Code:    protocolViolation,
			Message: fmt.Sprintf("the server sent a message of type %q with the impossible length %d", header[0], length),
		}
	}
	return header, length - 4, nil
}

// readMessage reads one whole message.
func readMessage(r io.Reader) (message, error) {
	header, size, err := readHeader(r)
	if err != nil {
		return message{}, err
	}
	return readBody(r, header, size)
}

// readBody reads what is behind a header.
func readBody(r io.Reader, header [5]byte, size int64) (message, error) {
	if size > maxLoginMessage {
		return message{}, &Error{
			Code:    protocolViolation,
			Message: fmt.Sprintf("the server sent a message of type %q with %d bytes during login", header[0], size),
		}
	}
	raw := append(make([]byte, 0, len(header)+int(size)), header[:]...)
	raw = raw[:cap(raw)]
	_, err := io.ReadFull(r, raw[len(header):])
	return message{raw}, err
}

// serverError is the server's refusal of a login. It goes to the client as it
// came, but for a hint.
type serverError struct {
	raw       message
	said      pgproto3.ErrorResponse
	tokenSent bool   // it is the answer to a token
	hint      string // to be added; may be empty
}

func newServerError(raw message, tokenSent bool) error {
	e := &serverError{raw: raw, tokenSent: tokenSent}
	if err := e.said.Decode(raw.body()); err != nil {
		return &Error{Code: protocolViolation, Message: "the server sent an error that cannot be read", Err: err}
	}
	return e
}

func (e *serverError) Error() string {
	return fmt.Sprintf("the server said: %s (SQLSTATE %s)", oneLine(e.said.Message), e.said.Code)
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
	b = append(b, oneLine(e.hint)...)
	b = append(b, 0, 0)
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-1))
	return b
}
