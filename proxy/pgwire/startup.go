package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// A connection's first packets have no type byte: a length (which counts itself), a code,
// and a payload. The code of a startup packet is the protocol version. pgproto3's reader
// knows two versions only and reads ahead.
//
// https://www.postgresql.org/docs/current/protocol-message-formats.html
const (
	CancelRequest = 80877102
	SSLRequest    = 80877103
	GSSENCRequest = 80877104

	// MaxStartupPacket is the maximum number of bytes of a startup packet. It is the server's limit
	// (MAX_STARTUP_PACKET_LENGTH in its libpq/pqcomm.h) but for the length word, which
	// the server does not count.
	MaxStartupPacket = 10000
)

// ALPN is the protocol's name in TLS. Clients and servers that start TLS without an
// SSLRequest must send it.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
const ALPN = "postgresql"

// StartupPacket is one of a connection's first packets.
type StartupPacket struct {
	Code    uint32
	Payload []byte // follows the code
}

// Major returns the protocol's major version.
func (p StartupPacket) Major() uint32 { return p.Code >> 16 }

// Minor returns the protocol's minor version.
func (p StartupPacket) Minor() uint32 { return p.Code & 0xffff }

// ErrNoStartup is the error of a connection that ended, or stayed silent, before its
// client requested anything, as a port probe does. Terminate is such an end.
var ErrNoStartup = errors.New("no startup packet")

// ErrTerminated is an ErrNoStartup.
var ErrTerminated = fmt.Errorf("%w: the client sent Terminate", ErrNoStartup)

// ReadStartupPacket reads one packet and not a byte more. It checks the length before it
// allocates. The error is ErrNoStartup, an *Error, or the timeout in the middle of the
// packet.
func ReadStartupPacket(r io.Reader) (StartupPacket, error) {
	head, err := ReadStartupHead(r)
	if err != nil {
		return StartupPacket{}, err
	}
	return ReadStartupBody(r, head)
}

// ReadStartupHead reads the length of a packet, which is the beginning of a ClientHello
// where the client starts TLS at once. The error is as that of ReadStartupPacket.
func ReadStartupHead(r io.Reader) (head [4]byte, err error) {
	n, err := io.ReadFull(r, head[:])
	switch {
	case err == nil:
		return head, nil
	case n == 0:
		return head, fmt.Errorf("%w: %w", ErrNoStartup, err)
	default:
		return head, truncatedError(err)
	}
}

// ReadStartupBody reads the rest of a packet after its length. The error is as that of
// ReadStartupPacket.
func ReadStartupBody(r io.Reader, head [4]byte) (StartupPacket, error) {
	if head == [4]byte{Terminate} {
		return StartupPacket{}, readTerminate(r, head)
	}
	length := binary.BigEndian.Uint32(head[:])
	if length < 8 || length > MaxStartupPacket {
		return StartupPacket{}, invalidPacketError(head)
	}
	body := make([]byte, length-4)
	if _, err := io.ReadFull(r, body); err != nil {
		return StartupPacket{}, truncatedError(err)
	}
	return StartupPacket{Code: binary.BigEndian.Uint32(body), Payload: body[4:]}, nil
}

// readTerminate returns the error of a client whose first packet is a Terminate, as that of
// node-postgres if it disconnects before it has connected. head is the beginning of it: its type
// and three bytes of its length.
func readTerminate(r io.Reader, head [4]byte) error {
	var last [1]byte
	if _, err := io.ReadFull(r, last[:]); err != nil {
		return truncatedError(err)
	}
	if string(head[:])+string(last[:]) != terminateMessage {
		return invalidPacketError(head)
	}
	return ErrTerminated
}

// IsClientHello reports whether a connection's first bytes begin a TLS handshake. As the
// length of a packet they would be 369 MB.
func IsClientHello(head [4]byte) bool { return head[0] == 0x16 && head[1] == 3 }

func invalidPacketError(head [4]byte) *Error {
	switch {
	case IsClientHello(head):
		return NewError(ClientTLSDisabled, nil)
	case string(head[:]) == "GET " || string(head[:]) == "POST":
		return NewError(HTTPRequest, nil)
	default:
		return NewError(StartupLengthInvalid, nil, binary.BigEndian.Uint32(head[:]), MaxStartupPacket)
	}
}

// truncatedError returns the error of a packet that ended with err: the client closed its
// end, is slow, or is gone.
func truncatedError(err error) error {
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return NewError(StartupIncomplete, nil)
	case netconn.IsTimeout(err):
		return err
	default:
		return fmt.Errorf("%w: %w", ErrNoStartup, err)
	}
}

// StartupMessage is the content of a startup packet that requests a session.
type StartupMessage struct {
	Version    uint32
	Parameters []Parameter // in the client's order, with repetitions
}

// Parameter is a name and value of a StartupMessage.
type Parameter struct{ Name, Value string }

// ParseStartupMessage reads a packet of any version: pairs of zero-terminated strings,
// and a zero after the last. The error is an *Error.
func ParseStartupMessage(packet StartupPacket) (StartupMessage, error) {
	m := StartupMessage{Version: packet.Code}
	rest := packet.Payload
	for {
		name, after, ok := cutString(rest)
		if !ok {
			return StartupMessage{}, NewError(StartupLayoutInvalid, nil)
		}
		if name == "" {
			if len(after) > 0 {
				return StartupMessage{}, NewError(StartupLayoutInvalid, nil)
			}
			return m, nil
		}
		value, after, ok := cutString(after)
		if !ok {
			return StartupMessage{}, NewError(StartupLayoutInvalid, nil)
		}
		m.Parameters = append(m.Parameters, Parameter{name, value})
		rest = after
	}
}

func cutString(b []byte) (s string, after []byte, ok bool) {
	head, after, ok := bytes.Cut(b, []byte{0})
	return string(head), after, ok
}

// Get returns the last value of a parameter, which is the one that the server uses
// (ProcessStartupPacket in its backend_startup.c).
func (m *StartupMessage) Get(name string) string {
	value := ""
	for _, p := range m.Parameters {
		if p.Name == name {
			value = p.Value
		}
	}
	return value
}

// Set gives a parameter one value, in its old place if it has one.
func (m *StartupMessage) Set(name, value string) {
	found := false
	for i, p := range m.Parameters {
		if p.Name == name {
			m.Parameters[i].Value = value
			found = true
		}
	}
	if !found {
		m.Parameters = append(m.Parameters, Parameter{name, value})
	}
}

// Encode is the reverse of ParseStartupMessage: a message that was not changed is encoded
// as it came.
func (m *StartupMessage) Encode() []byte {
	b := make([]byte, 4, 512)
	b = binary.BigEndian.AppendUint32(b, m.Version)
	for _, p := range m.Parameters {
		b = append(append(b, p.Name...), 0)
		b = append(append(b, p.Value...), 0)
	}
	b = append(b, 0)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

// PoolKey returns a key that is equal for two clients that can use the same server connection,
// one after the other. It is the startup packet with the parameters sorted by name: some
// drivers keep them in a hash table.
func (m *StartupMessage) PoolKey() string {
	sorted := StartupMessage{Version: m.Version, Parameters: slices.Clone(m.Parameters)}
	slices.SortStableFunc(sorted.Parameters, func(a, b Parameter) int { return strings.Compare(a.Name, b.Name) })
	return string(sorted.Encode())
}

// IsReplication reports whether any value requests a replication connection, physical or
// logical.
func (m *StartupMessage) IsReplication() bool {
	return slices.ContainsFunc(m.Parameters, func(p Parameter) bool {
		return p.Name == "replication" && (isPhysicalReplication(p.Value) || strings.EqualFold(p.Value, "database"))
	})
}

// IsPhysicalReplication reports whether the client requests a connection for physical
// replication, which takes no SQL.
func (m *StartupMessage) IsPhysicalReplication() bool {
	return isPhysicalReplication(m.Get("replication"))
}

// isPhysicalReplication is false for a boolean's no and for "database", which requests
// logical replication.
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-REPLICATION
func isPhysicalReplication(value string) bool {
	value = strings.ToLower(value)
	return value != "" && !slices.Contains([]string{"database", "false", "off", "no", "0", "f", "n"}, value)
}
