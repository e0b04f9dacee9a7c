package message

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"
)

// OpenChannel is the text message with which a client opens a data channel, before all
// binary ones. The token is a secret.
type OpenChannel struct {
	MessageSchemaVersion string // "1.0"
	RequestID            string `json:"RequestId"` // a UUID
	TokenValue           string
	ClientID             string `json:"ClientId"` // a UUID
	ClientVersion        string
}

// Acknowledgement is the payload of an Acknowledge.
type Acknowledgement struct {
	Type           Type   `json:"AcknowledgedMessageType"`
	ID             string `json:"AcknowledgedMessageId"`
	SequenceNumber int64  `json:"AcknowledgedMessageSequenceNumber"`
	Sequential     bool   `json:"IsSequentialMessage"`
}

// NewAcknowledge returns the acknowledgement of a message of stream data.
func NewAcknowledge(m *Message, now time.Time) *Message {
	return &Message{
		Type: Acknowledge, Created: now, Flags: SYN | FIN, ID: NewID(),
		Payload: Encode(Acknowledgement{Type: m.Type, ID: m.ID.String(), SequenceNumber: m.SequenceNumber, Sequential: true}),
	}
}

// ActionType is the type of an action that the agent requests in the handshake.
type ActionType string

// The types of actions.
const (
	KMSEncryption ActionType = "KMSEncryption"
	SessionType   ActionType = "SessionType"
)

// ActionStatus is the result of an action.
type ActionStatus int

// The results of actions.
const (
	Success     ActionStatus = 1
	Failed      ActionStatus = 2
	Unsupported ActionStatus = 3
)

// HandshakeRequestPayload is the payload of a HandshakeRequest of the agent.
type HandshakeRequestPayload struct {
	AgentVersion           string
	RequestedClientActions []RequestedAction
}

// RequestedAction is an action that the agent requests. The parameters depend on its type.
type RequestedAction struct {
	ActionType       ActionType
	ActionParameters json.RawMessage
}

// PortSession is the SessionType of a port forward.
const PortSession = "Port"

// SessionTypeParameters are the parameters of a SessionType action.
type SessionTypeParameters struct {
	SessionType string
	Properties  json.RawMessage `json:",omitempty"`
}

// HandshakeResponsePayload is the payload of a HandshakeResponse of the client.
type HandshakeResponsePayload struct {
	ClientVersion          string
	ProcessedClientActions []ProcessedAction
	Errors                 []string
}

// ProcessedAction is the result of an action.
type ProcessedAction struct {
	ActionType   ActionType
	ActionStatus ActionStatus
	ActionResult json.RawMessage
	Error        string
}

// HandshakeCompletePayload is the payload of a HandshakeComplete of the agent.
type HandshakeCompletePayload struct {
	HandshakeTimeToComplete time.Duration // in nanoseconds
	CustomerMessage         string
}

// ChannelClosedPayload is the payload of a ChannelClosed.
type ChannelClosedPayload struct {
	MessageID     string `json:"MessageId"`
	CreatedDate   string
	DestinationID string `json:"DestinationId"`
	SessionID     string `json:"SessionId"`
	MessageType   Type
	SchemaVersion int
	Output        string // the cause, for the user; may be empty
}

// FlagValue is the payload of a Flag.
type FlagValue uint32

// The flags.
const (
	DisconnectToPort   FlagValue = 1
	TerminateSession   FlagValue = 2 // the client ends the session
	ConnectToPortError FlagValue = 3 // the agent could not connect to the port
)

// Encode returns the payload for a flag.
func (f FlagValue) Encode() []byte { return binary.BigEndian.AppendUint32(nil, uint32(f)) }

// ParseFlag decodes the payload of a Flag.
func ParseFlag(payload []byte) (FlagValue, error) {
	if len(payload) != 4 {
		return 0, errors.New("flag does not have 4 bytes")
	}
	return FlagValue(binary.BigEndian.Uint32(payload)), nil
}

// Encode returns a payload as JSON.
func Encode(payload any) []byte {
	b, err := json.Marshal(payload)
	if err != nil {
		panic(err) // the types of this package can be encoded
	}
	return b
}
