package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// A connection's first packets have no type byte: a length (which counts
// itself), a code, and what the code asks for. The code of a startup packet is
// the protocol version. We frame them ourselves: pgproto3's reader takes two
// versions only and reads ahead.
//
// https://www.postgresql.org/docs/current/protocol-message-formats.html
const (
	cancelRequestCode = 80877102
	sslRequestCode    = 80877103
	gssRequestCode    = 80877104

	// maxStartupPacket is the most bytes a first packet may have. It is the
	// server's limit (MAX_STARTUP_PACKET_LENGTH in its libpq/pqcomm.h), but for
	// the length word, which the server does not count.
	maxStartupPacket = 10000
)

// firstPacket is one of a connection's first packets.
type firstPacket struct {
	code    uint32
	payload []byte // what is behind the code
}

func (p firstPacket) majorVersion() uint32 { return p.code >> 16 }
func (p firstPacket) minorVersion() uint32 { return p.code & 0xffff }

// errNoStartup ends a connection whose client has not asked for anything: a
// probe, or one that left.
var errNoStartup = errors.New("no startup packet")

// readFirstPacket reads one packet and not a byte more. It checks the length
// before it makes room. The error is errNoStartup, a *fatalError, or that of a
// deadline in the middle of the packet.
func readFirstPacket(r io.Reader) (firstPacket, error) {
	head, err := readHead(r)
	if err != nil {
		return firstPacket{}, err
	}
	return readBehind(r, head)
}

// readHead reads the length of a packet, or what is there in its place.
func readHead(r io.Reader) (head [4]byte, err error) {
	n, err := io.ReadFull(r, head[:])
	switch {
	case err == nil:
		return head, nil
	case n == 0:
		return head, fmt.Errorf("%w: %w", errNoStartup, err)
	default:
		return head, cutShort(err)
	}
}

// readBehind reads the rest of a packet.
func readBehind(r io.Reader, head [4]byte) (firstPacket, error) {
	length := binary.BigEndian.Uint32(head[:])
	if length < 8 || length > maxStartupPacket {
		return firstPacket{}, notAPacket(head)
	}
	body := make([]byte, length-4)
	if _, err := io.ReadFull(r, body); err != nil {
		return firstPacket{}, cutShort(err)
	}
	return firstPacket{code: binary.BigEndian.Uint32(body), payload: body[4:]}, nil
}

func notAPacket(head [4]byte) *fatalError {
	switch {
	case isClientHello(head):
		return &fatalError{
			Code:    protocolViolation,
			Message: "the client started TLS, and there is none here",
			Hint:    "use sslmode=disable in the client, or --listen-tls here",
		}
	case string(head[:]) == "GET " || string(head[:]) == "POST":
		return &fatalError{Code: protocolViolation, Message: "the client speaks HTTP; this port speaks PostgreSQL's protocol"}
	default:
		return &fatalError{
			Code:    protocolViolation,
			Kind:    "invalid length",
			Message: fmt.Sprintf("invalid length of startup packet: %d bytes, not 8 to %d", binary.BigEndian.Uint32(head[:]), maxStartupPacket),
		}
	}
}

// cutShort tells a client that left off in the middle of a packet from one that
// only takes its time, and from one that is gone.
func cutShort(err error) error {
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return &fatalError{Code: protocolViolation, Message: "incomplete startup packet"}
	case netconn.IsTimeout(err):
		return err
	default:
		return fmt.Errorf("%w: %w", errNoStartup, err)
	}
}

// startup is what a startup packet says.
type startup struct {
	version    uint32
	parameters []parameter // in the client's order, repetitions and all
}

type parameter struct{ name, value string }

// parseStartup takes a packet of any version. The parameters are pairs of
// zero-terminated strings, and a zero behind the last.
func parseStartup(packet firstPacket) (startup, error) {
	s := startup{version: packet.code}
	rest := packet.payload
	for {
		name, behind, ok := cutString(rest)
		if !ok {
			return startup{}, badLayout
		}
		if name == "" {
			if len(behind) > 0 {
				return startup{}, badLayout
			}
			return s, nil
		}
		value, behind, ok := cutString(behind)
		if !ok {
			return startup{}, badLayout
		}
		s.parameters = append(s.parameters, parameter{name, value})
		rest = behind
	}
}

var badLayout = &fatalError{Code: protocolViolation, Message: "invalid startup packet layout: expected terminator as last byte"}

func cutString(b []byte) (s string, behind []byte, ok bool) {
	head, behind, ok := bytes.Cut(b, []byte{0})
	return string(head), behind, ok
}

// get returns the last value of a parameter, which is the one that the server
// goes by (ProcessStartupPacket in its backend_startup.c).
func (s *startup) get(name string) string {
	value := ""
	for _, p := range s.parameters {
		if p.name == name {
			value = p.value
		}
	}
	return value
}

// set gives a parameter one value, in its old place if it has one.
func (s *startup) set(name, value string) {
	found := false
	for i, p := range s.parameters {
		if p.name == name {
			s.parameters[i].value = value
			found = true
		}
	}
	if !found {
		s.parameters = append(s.parameters, parameter{name, value})
	}
}

// encode is the reverse of parseStartup: a packet that was not changed comes
// out as it went in.
func (s *startup) encode() []byte {
	b := make([]byte, 4, 512)
	b = binary.BigEndian.AppendUint32(b, s.version)
	for _, p := range s.parameters {
		b = append(append(b, p.name...), 0)
		b = append(append(b, p.value...), 0)
	}
	b = append(b, 0)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}
