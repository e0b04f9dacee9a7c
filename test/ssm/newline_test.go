package ssm_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/iamproxy/iamproxy/test/fakessm"
)

// AWS's plugin sends a message of one newline as a carriage return. With a header of smux of
// 8 bytes, the last byte of these is alone in its message. iamproxy's client changes nothing.
func TestLoneNewline(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakessm.Agent{})
	t.Run("iamproxy", func(t *testing.T) {
		address, _ := w.iamproxy(t)
		if changed := changedNewlines(t, address, 20); changed != 0 {
			t.Errorf("%d of 20 are changed", changed)
		}
	})
	t.Run("plugin", func(t *testing.T) {
		address, _ := w.plugin(t)
		if changed := changedNewlines(t, address, 20); changed == 0 {
			t.Error("AWS has fixed its plugin: docs/forwarding.md says otherwise")
		}
	})
}

// changedNewlines sends 1,017 bytes that end with a newline, n times, and returns how often
// the echo differs.
func changedNewlines(t *testing.T, address string, n int) (changed int) {
	t.Helper()
	const beginning = "hello" // without it, the command and the bytes could be sent as one
	line := append(bytes.Repeat([]byte("x"), 1016), '\n')
	conn := dialPort(t, address)
	echoed := func(sent []byte, received []byte) []byte {
		t.Helper()
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, received); err != nil {
			t.Fatal(err)
		}
		return received
	}
	echoed(fmt.Appendf(nil, "echo %d\n%s", len(beginning)+n*len(line), beginning), make([]byte, len(beginning)))
	for range n {
		if !bytes.Equal(echoed(line, make([]byte, len(line))), line) {
			changed++
		}
	}
	return changed
}
