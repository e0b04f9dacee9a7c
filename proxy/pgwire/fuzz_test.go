package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// The corpus in testdata has what real clients and servers send, recorded, and inputs that
// fuzzing has found worth keeping.

// startup returns a startup packet with pairs of parameters.
func startup(version uint32, pairs ...string) []byte {
	m := StartupMessage{Version: version}
	for i := 0; i < len(pairs); i += 2 {
		m.Parameters = append(m.Parameters, Parameter{pairs[i], pairs[i+1]})
	}
	return m.Encode()
}

// FuzzStartupPacket checks that a packet is read by its length alone, and that a startup
// message is encoded as it came.
func FuzzStartupPacket(f *testing.F) {
	f.Add(startup(3<<16, "user", "alice", "database", "mydb"))
	f.Add(startup(3<<16|9999, "user", "u", "_pq_.test_protocol_negotiation", ""))
	f.Add(startup(3<<16|2, "user", "u", "replication", "database", "options", "-c geqo=off"))
	f.Add(Encode(&pgproto3.SSLRequest{}))
	f.Add(Encode(&pgproto3.GSSEncRequest{}))
	f.Add(Encode(&pgproto3.CancelRequest{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}}))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc"))
	f.Add([]byte{0x80, 0, 0, 8, 0, 3, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		packet, err := ReadStartupPacket(bytes.NewReader(data))
		if err != nil {
			var failed *Error
			if !errors.As(err, &failed) && !errors.Is(err, ErrNoStartup) {
				t.Fatalf("unclear error %v", err)
			}
			return
		}
		length := binary.BigEndian.Uint32(data)
		if length > MaxStartupPacket || int(length) != len(packet.Payload)+8 {
			t.Fatalf("packet of %d bytes has a payload of %d", length, len(packet.Payload))
		}
		s, err := ParseStartupMessage(packet)
		if err != nil {
			return
		}
		if got := s.Encode(); !bytes.Equal(got, data[:length]) {
			t.Fatalf("%q encoded as %q", data[:length], got)
		}
		s.Set("user", "other")
		again, err := ParseStartupMessage(StartupPacket{s.Version, s.Encode()[8:]})
		if err != nil || again.Get("user") != "other" {
			t.Fatalf("user cannot be set in %q: %v", data[:length], err)
		}
	})
}

// FuzzServerMessage checks that a message is read as it came, and that an error with an
// added hint can be read.
func FuzzServerMessage(f *testing.F) {
	f.Add(Encode(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "PAM authentication failed"}))
	f.Add(Encode(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "3D000", Hint: "a hint of its own"}))
	f.Add(Encode(&pgproto3.AuthenticationCleartextPassword{}))
	f.Add(Encode(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}))
	f.Add(Encode(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}}))
	f.Add([]byte{'E', 0, 0, 0, 5, 0})
	f.Add([]byte{'E', 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ReadMessage(bytes.NewReader(data))
		if err != nil {
			return
		}
		if !bytes.HasPrefix(data, m) {
			t.Fatal("message differs from the input")
		}
		var refusal *ServerError
		if !errors.As(NewServerError(m, TokenSent), &refusal) {
			return
		}
		refusal.Hint = "do\nthis"
		var again pgproto3.ErrorResponse
		b := refusal.ErrorResponse()
		if binary.BigEndian.Uint32(b[1:]) != uint32(len(b)-1) {
			t.Fatalf("wrong length in %q", b)
		}
		if err := again.Decode(b[5:]); err != nil {
			t.Fatal(err)
		}
		if again.Code != refusal.Fields.Code || again.Message != refusal.Fields.Message {
			t.Fatalf("error changed: %+v", again)
		}
	})
}
