package proxy

import (
	"bytes"
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
