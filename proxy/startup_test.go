package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestReadFirstPacketTakesNoMore(t *testing.T) {
	for _, packet := range [][]byte{
		ordinaryStartup,
		encode(&pgproto3.SSLRequest{}),
		encode(&pgproto3.CancelRequest{ProcessID: 1, SecretKey: bytes.Repeat([]byte{7}, 200)}),
		startupPacket(3<<16|9999, "user", strings.Repeat("x", 9000)),
	} {
		r := bytes.NewReader(append(bytes.Clone(packet), "behind"...))
		if _, err := readFirstPacket(iotest.OneByteReader(r)); err != nil {
			t.Error(err)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "behind" {
			t.Errorf("%q is left, want what stands behind the packet", rest)
		}
	}
}

func TestStartupParameters(t *testing.T) {
	s, err := parseStartup(firstPacket{3 << 16, []byte("user\x00a\x00options\x00-c x=1\x00user\x00b\x00\x00")})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.get("user"); got != "b" {
		t.Errorf("user is %q, want the last as the server takes it", got)
	}
	s.set("user", "c")
	s.set("database", "d")
	want := "user\x00c\x00options\x00-c x=1\x00user\x00c\x00database\x00d\x00\x00"
	if got := s.encode()[8:]; string(got) != want {
		t.Errorf("encoded %q, want %q", got, want)
	}
}

// FuzzFirstPacket: whatever a client sends is taken apart without a panic, by
// its length only, and a startup packet goes up as it came.
func FuzzFirstPacket(f *testing.F) {
	f.Add(ordinaryStartup)
	f.Add(startupPacket(3<<16|9999, "user", "u", "_pq_.test_protocol_negotiation", ""))
	f.Add(startupPacket(3<<16|2, "user", "u", "replication", "database", "options", "-c geqo=off"))
	f.Add(encode(&pgproto3.SSLRequest{}))
	f.Add(encode(&pgproto3.GSSEncRequest{}))
	f.Add(encode(&pgproto3.CancelRequest{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}}))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc"))
	f.Add([]byte{0x80, 0, 0, 8, 0, 3, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		packet, err := readFirstPacket(bytes.NewReader(data))
		if err != nil {
			var failed *fatalError
			if !errors.As(err, &failed) && !errors.Is(err, errNoStartup) {
				t.Fatalf("unclear error %v", err)
			}
			return
		}
		length := binary.BigEndian.Uint32(data)
		if length > maxStartupPacket || int(length) != len(packet.payload)+8 {
			t.Fatalf("packet of %d bytes has a payload of %d", length, len(packet.payload))
		}
		s, err := parseStartup(packet)
		if err != nil {
			return
		}
		if got := s.encode(); !bytes.Equal(got, data[:length]) {
			t.Fatalf("%q went up as %q", data[:length], got)
		}
		s.set("user", "other")
		again, err := parseStartup(firstPacket{s.version, s.encode()[8:]})
		if err != nil || again.get("user") != "other" {
			t.Fatalf("user cannot be set in %q: %v", data[:length], err)
		}
	})
}

// FuzzServerMessage: whatever a server sends during a login is taken apart
// without a panic, and a hint that is added to an error leaves it readable.
func FuzzServerMessage(f *testing.F) {
	f.Add(encode(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "PAM authentication failed"}))
	f.Add(encode(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "3D000", Hint: "a hint of its own"}))
	f.Add(encode(&pgproto3.AuthenticationCleartextPassword{}))
	f.Add(encode(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}))
	f.Add(encode(key))
	f.Add([]byte{'E', 0, 0, 0, 5, 0})
	f.Add([]byte{'E', 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := readMessage(bytes.NewReader(data))
		if err != nil {
			return
		}
		if !bytes.HasPrefix(data, m.raw) {
			t.Fatal("message is not what came")
		}
		var refusal *serverError
		if !errors.As(newServerError(m, true), &refusal) {
			return
		}
		refusal.hint = "do\nthis"
		var again pgproto3.ErrorResponse
		b := refusal.withHint()
		if binary.BigEndian.Uint32(b[1:]) != uint32(len(b)-1) {
			t.Fatalf("wrong length in %q", b)
		}
		if err := again.Decode(b[5:]); err != nil {
			t.Fatal(err)
		}
		if again.Code != refusal.said.Code || again.Message != refusal.said.Message {
			t.Fatalf("error changed: %+v", again)
		}
	})
}
