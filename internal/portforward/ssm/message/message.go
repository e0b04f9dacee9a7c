// Package message encodes and decodes the messages of a Session Manager data channel: those
// between a client and the SSM Agent on the target, which the message gateway passes on.
//
// The layout is that of aws/amazon-ssm-agent, agent/session/contracts/agentmessage.go, and of
// aws/session-manager-plugin, src/message.
package message

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Type is the type of a message.
type Type string

// The types of messages on a data channel.
const (
	InputStreamData  Type = "input_stream_data"  // from the client
	OutputStreamData Type = "output_stream_data" // from the agent
	Acknowledge      Type = "acknowledge"
	ChannelClosed    Type = "channel_closed"    // the session has ended
	StartPublication Type = "start_publication" // the other side receives again
	PausePublication Type = "pause_publication" // the other side does not receive
)

// PayloadType is the type of the payload of stream data.
type PayloadType uint32

// The types of payloads.
const (
	Output                PayloadType = 1 // data, in both directions
	Error                 PayloadType = 2
	Size                  PayloadType = 3
	Parameter             PayloadType = 4
	HandshakeRequest      PayloadType = 5
	HandshakeResponse     PayloadType = 6
	HandshakeComplete     PayloadType = 7
	EncryptionChallenge   PayloadType = 8
	EncryptionChallengeOK PayloadType = 9 // the response
	Flag                  PayloadType = 10
	Stderr                PayloadType = 11
	ExitCode              PayloadType = 12
)

// The flags of a message. AWS's client sends none of them with stream data, and both with an
// acknowledgement.
const (
	SYN uint64 = 1 // the first message of a stream
	FIN uint64 = 2 // the last one
)

const (
	// MaxPayload is the number of bytes that AWS's client and the agent put into one
	// message of data.
	MaxPayload = 1024
	// HeaderSize is the number of bytes before the payload.
	HeaderSize = headerLength + 4

	schemaVersion = 1
	// The header length in a message does not count the payload length that follows it.
	headerLength = 116
	// A header of the gateway's channel_closed has no payload type.
	shortHeaderLength = 112

	typeOffset     = 4
	versionOffset  = 36
	createdOffset  = 40
	sequenceOffset = 48
	flagsOffset    = 56
	idOffset       = 64
	digestOffset   = 80
	payloadOffset  = 112 // the payload type
)

// Message is a message of a data channel.
type Message struct {
	Type           Type
	Created        time.Time // with a precision of 1 ms; the zero value is 0 ms after the Unix epoch
	SequenceNumber int64
	Flags          uint64
	ID             ID
	PayloadType    PayloadType
	Payload        []byte
}

// ID is the UUID of a message.
type ID [16]byte

// NewID returns a random ID.
func NewID() ID {
	var id ID
	rand.Read(id[:])
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// String returns the ID with hyphens.
func (id ID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// Append appends the encoded message to b. The type must not have more than 32 bytes.
func (m *Message) Append(b []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, HeaderSize)...)
	b = append(b, m.Payload...)
	m.PutHeader(b[at:])
	return b
}

// PutHeader encodes the header of a message into the first HeaderSize bytes of b. The rest of b
// is the payload, and the field Payload is ignored.
func (m *Message) PutHeader(b []byte) {
	payload := b[HeaderSize:]
	binary.BigEndian.PutUint32(b, headerLength)
	for i := typeOffset + copy(b[typeOffset:versionOffset], m.Type); i < versionOffset; i++ {
		b[i] = ' '
	}
	binary.BigEndian.PutUint32(b[versionOffset:], schemaVersion)
	var created int64
	if !m.Created.IsZero() {
		created = m.Created.UnixMilli()
	}
	binary.BigEndian.PutUint64(b[createdOffset:], uint64(created))
	binary.BigEndian.PutUint64(b[sequenceOffset:], uint64(m.SequenceNumber))
	binary.BigEndian.PutUint64(b[flagsOffset:], m.Flags)
	copy(b[idOffset:], m.ID[8:]) // the halves are swapped
	copy(b[idOffset+8:], m.ID[:8])
	digest := sha256.Sum256(payload)
	copy(b[digestOffset:], digest[:])
	binary.BigEndian.PutUint32(b[payloadOffset:], uint32(m.PayloadType))
	binary.BigEndian.PutUint32(b[headerLength:], uint32(len(payload)))
}

// The errors of Parse.
var (
	ErrTruncated    = errors.New("message is shorter than its header")
	ErrHeaderLength = errors.New("message has an unknown header length")
	ErrLength       = errors.New("message has a wrong payload length")
	ErrDigest       = errors.New("message has a wrong payload digest")
)

// Parse decodes a message. The payload is a part of b. As AWS's client does, Parse ignores the
// schema version, checks no digest of an empty payload, and reads only the type of
// start_publication and pause_publication.
func Parse(b []byte) (Message, error) {
	if len(b) < versionOffset {
		return Message{}, ErrTruncated
	}
	m := Message{Type: Type(bytes.Trim(b[typeOffset:versionOffset], " \t\r\n\x00"))}
	if m.Type == StartPublication || m.Type == PausePublication {
		return m, nil
	}
	header := binary.BigEndian.Uint32(b)
	if header != headerLength && header != shortHeaderLength {
		return Message{}, ErrHeaderLength
	}
	if len(b) < int(header)+4 {
		return Message{}, ErrTruncated
	}
	m.Created = time.UnixMilli(int64(binary.BigEndian.Uint64(b[createdOffset:])))
	m.SequenceNumber = int64(binary.BigEndian.Uint64(b[sequenceOffset:]))
	m.Flags = binary.BigEndian.Uint64(b[flagsOffset:])
	copy(m.ID[8:], b[idOffset:])
	copy(m.ID[:8], b[idOffset+8:])
	if header == headerLength {
		m.PayloadType = PayloadType(binary.BigEndian.Uint32(b[payloadOffset:]))
	}
	length := binary.BigEndian.Uint32(b[header:])
	m.Payload = b[header+4:]
	if uint64(length) != uint64(len(m.Payload)) {
		return Message{}, ErrLength
	}
	if length > 0 && sha256.Sum256(m.Payload) != [sha256.Size]byte(b[digestOffset:payloadOffset]) {
		return Message{}, ErrDigest
	}
	return m, nil
}
