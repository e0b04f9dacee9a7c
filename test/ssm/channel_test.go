package ssm_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/fakessm"
)

// transferAll makes n connections at once, and sends size bytes each way through each.
func transferAll(t *testing.T, w *world, n int, size int64) (done <-chan struct{}) {
	t.Helper()
	dial := connect(t, w.aws.URL())
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			conn, err := dial()
			if err == nil {
				defer conn.Close()
				err = transfer(conn, size)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all := make(chan struct{})
	go func() {
		wg.Wait()
		close(all)
	}()
	return all
}

// Data is whole although messages are lost, repeated and reordered.
func TestFaults(t *testing.T) {
	for name, loss := range map[string]fakessm.Loss{"lost": {Lose: 20}, "duplicate": {Duplicate: 3}, "reordered": {Reorder: 3}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fakessm.Agent{})
			w.gateway.SetFaults(fakessm.Faults{Up: loss, Down: loss})
			<-transferAll(t, w, 5, 30_000)
		})
	}
}

// Connections survive sockets that end.
func TestSocketsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakessm.Agent{})
	done := transferAll(t, w, 3, 100_000)
	for i := 0; ; i++ {
		select {
		case <-done:
			if w.gateway.Counts().Resumed == 0 {
				t.Error("the sockets did not end in time")
			}
			return
		case <-time.After(200 * time.Millisecond):
			if i%2 == 0 {
				w.gateway.Cut()
			} else {
				w.gateway.Bye()
			}
		}
	}
}

// AWS's plugin sends a message of one newline as a carriage return. With a header of smux of
// 8 bytes, the last byte of these is alone in its message. iamproxy's client changes nothing.
func TestLoneNewline(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakessm.Agent{})
	t.Run("iamproxy", func(t *testing.T) {
		conn, err := connect(t, w.aws.URL())()
		if err != nil {
			t.Fatal(err)
		}
		if changed := changedNewlines(t, conn, 20); changed != 0 {
			t.Errorf("%d of 20 are changed", changed)
		}
	})
	t.Run("plugin", func(t *testing.T) {
		address, _ := w.plugin(t)
		if changed := changedNewlines(t, dialPort(t, address), 20); changed == 0 {
			t.Error("AWS has fixed its plugin: docs/forwarding.md says otherwise")
		}
	})
}

// changedNewlines sends 1,017 bytes that end with a newline, n times, and returns how often
// the echo differs.
func changedNewlines(t *testing.T, conn net.Conn, n int) (changed int) {
	t.Helper()
	const beginning = "hello" // without it, the command and the bytes could be sent as one
	line := append(bytes.Repeat([]byte("x"), 1016), '\n')
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
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
