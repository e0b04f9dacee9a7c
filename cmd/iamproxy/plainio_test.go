package main

import (
	"net"
	"runtime"
	"testing"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

func TestPlainIO(t *testing.T) {
	defer netconn.SetPlainIO(false)
	for _, test := range []struct {
		value string
		code  int
		plain bool
	}{{"1", 0, true}, {"0", 0, false}, {"", 0, false}, {"some", 2, false}} {
		t.Setenv("IAMPROXY_PLAIN_IO", test.value)
		if code, _, stderr := try(t.Context(), "version"); code != test.code {
			t.Errorf("%q: ended with %d: %s", test.value, code, stderr)
		}
		if plain := hasPlainIO(t); runtime.GOOS == "linux" && plain != test.plain {
			t.Errorf("%q: new connections have plain I/O: %v", test.value, plain)
		}
	}
}

// hasPlainIO reports whether new connections cannot be polled.
func hasPlainIO(t *testing.T) bool {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return !netconn.New(conn).NoUnreadData()
}
