package pgwire

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestReadStartupPacketReadsNoMore(t *testing.T) {
	for _, packet := range [][]byte{
		startup(3<<16, "user", "alice", "database", "mydb"),
		Encode(&pgproto3.SSLRequest{}),
		Encode(&pgproto3.CancelRequest{ProcessID: 1, SecretKey: bytes.Repeat([]byte{7}, 200)}),
		startup(3<<16|9999, "user", strings.Repeat("x", 9000)),
	} {
		r := bytes.NewReader(append(bytes.Clone(packet), "after"...))
		if _, err := ReadStartupPacket(iotest.OneByteReader(r)); err != nil {
			t.Error(err)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "after" {
			t.Errorf("%q is left", rest)
		}
	}
}

func TestStartupMessageParameters(t *testing.T) {
	s, err := ParseStartupMessage(StartupPacket{3 << 16, []byte("user\x00a\x00options\x00-c x=1\x00user\x00b\x00\x00")})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Get("user"); got != "b" {
		t.Errorf("user is %q, want the last value, as the server uses it", got)
	}
	s.Set("user", "c")
	s.Set("database", "d")
	want := "user\x00c\x00options\x00-c x=1\x00user\x00c\x00database\x00d\x00\x00"
	if got := s.Encode()[8:]; string(got) != want {
		t.Errorf("encoded %q, want %q", got, want)
	}
}

// The order of parameters matters only among those of one name: the last value counts.
func TestPoolKey(t *testing.T) {
	key := func(version uint32, pairs ...string) string {
		packet, err := ReadStartupPacket(bytes.NewReader(startup(version, pairs...)))
		if err != nil {
			t.Fatal(err)
		}
		m, err := ParseStartupMessage(packet)
		if err != nil {
			t.Fatal(err)
		}
		return m.PoolKey()
	}
	want := key(3<<16, "user", "u", "database", "d", "options", "-c a=1", "options", "-c a=2")
	if key(3<<16, "options", "-c a=1", "database", "d", "options", "-c a=2", "user", "u") != want {
		t.Error("the order of the names changes the key")
	}
	for _, other := range []string{
		key(3<<16, "user", "u", "database", "d", "options", "-c a=2", "options", "-c a=1"),
		key(3<<16|2, "user", "u", "database", "d", "options", "-c a=1", "options", "-c a=2"),
		key(3<<16, "user", "u", "database", "d", "options", "-c a=1", "options", "-c a=2", "application_name", ""),
		key(3<<16, "user", "u", "database", "D", "options", "-c a=1", "options", "-c a=2"),
	} {
		if other == want {
			t.Errorf("%q is the same key", other)
		}
	}
}
