package ssm_test

import (
	"io"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// A client that does not read, but writes until the server does not read either, holds up all
// messages in both directions. The other connections go on after it is disconnected.
func TestStuckWriter(t *testing.T) {
	t.Parallel()
	w := start(t, func(w *world) { w.SetStuck(1<<20, time.Second) })
	other := w.dial()
	stuck := w.dial()
	const size = 64 << 20
	w.request(stuck, 'e', size)
	n, err := stuck.Write(make([]byte, size))
	if pgwire.ReasonOf(err) != pgwire.ConnectionBroken {
		t.Errorf("got %d bytes, %v", n, err)
	}
	w.echo(other, 100<<10)
	w.echo(w.dial(), 100<<10)
}

// The time limit of a client that does not read begins when there is another connection.
func TestStuckAlone(t *testing.T) {
	t.Parallel()
	w := start(t, func(w *world) { w.SetStuck(1<<20, 4*time.Second) })
	conn := w.dial()
	w.request(conn, 's', 4<<20)
	w.until("full buffer", func() bool { return w.gateway.Counts().BytesDown > 3<<19 })
	time.Sleep(4200 * time.Millisecond)
	w.dial()
	time.Sleep(1200 * time.Millisecond) // more than checkInterval
	if n, err := io.CopyN(io.Discard, conn, 4<<20); err != nil {
		t.Errorf("%d bytes, then %v", n, err)
	}
	close(w.held)
}

// A connection whose client does not read does not hold up Stop.
func TestStopWithFullQueue(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	conn := w.dial()
	w.request(conn, 's', 1<<20)
	w.until("data", func() bool { return w.gateway.Counts().BytesDown > 1<<19 })
	stopped := make(chan struct{})
	go func() {
		w.Stop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(limit):
		t.Error("Stop hangs")
		conn.Close()
	}
	close(w.held)
}

// What has arrived before the end of the session is read before the error.
func TestDataBeforeEnd(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for i := range 20 {
		conn := w.dial()
		const size = 100 << 10
		w.request(conn, 's', size)
		w.until("data", func() bool {
			counts := w.gateway.Counts()
			return counts.BytesDown >= int64(i+1)*size && counts.OpenMessages == 0 // a paused agent keeps messages
		})
		w.gateway.EndSessions("idle")
		n, err := io.Copy(io.Discard, conn)
		if n != size || pgwire.ReasonOf(err) != pgwire.SSMSessionEnded {
			t.Errorf("got %d bytes, %v", n, err)
		}
		w.until("end", func() bool { return w.Status().State == ssm.Closed })
	}
	close(w.held)
}

// Bytes that were written before Close arrive, even if Stop follows.
func TestStopAfterClose(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	conn := w.dial()
	const size = 128 << 10
	w.request(conn, 'd', size)
	if _, err := conn.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	w.Stop()
	if n := w.gateway.Counts().BytesUp; n < size {
		t.Errorf("%d bytes", n)
	}
}
