package ssm_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/test/conntest"
	"github.com/iamproxy/iamproxy/test/fakessm"
)

func TestParallel(t *testing.T) {
	w := start(t, nil)
	w.gateway.SetFaults(fakessm.Faults{Up: fakessm.Loss{Lose: 50, Duplicate: 30, Reorder: 20}, Down: fakessm.Loss{Lose: 50, Duplicate: 30, Reorder: 20}})
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() { w.echo(w.dial(), 20<<10) })
	}
	clients.Wait()
	if n := w.gateway.Counts().Started; n != 1 {
		t.Errorf("%d sessions", n)
	}
}

func TestConnectToPortError(t *testing.T) {
	w := start(t, func(w *world) { w.gateway.Agent.Routes = map[string]string{database: "127.0.0.1:1"} })
	for range 3 {
		if _, err := w.dial().Read(make([]byte, 1)); pgwire.ReasonOf(err) != pgwire.SSMConnectFailed {
			t.Errorf("got %v", err)
		}
	}
	if w.Status().State != ssm.Open {
		t.Error("the session has ended")
	}
}

// A connection that was closed before the agent failed to connect it does not explain the end of
// a later one.
func TestConnectToPortErrorLate(t *testing.T) {
	address := conntest.FreeAddress(t)
	w := start(t, func(w *world) { w.gateway.Agent.Routes = map[string]string{database: address} })
	for n := 1; n <= 5; n++ {
		w.dial().Close()
		w.until("error", func() bool { return w.gateway.Counts().ConnectErrors == n && w.Status().Streams == 0 })
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	if _, err := w.dial().Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	w := start(t, nil)
	conn := w.dial()
	past := time.Unix(1, 0)
	isTimeout := func(err error) bool { var e net.Error; return errors.As(err, &e) && e.Timeout() }
	w.request(conn, 'h', 0)
	var blocked sync.WaitGroup
	blocked.Go(func() {
		if _, err := conn.Read(make([]byte, 1)); !isTimeout(err) {
			t.Errorf("Read: %v", err)
		}
	})
	blocked.Go(func() {
		if n, err := conn.Write(make([]byte, 64<<20)); !isTimeout(err) || n == 0 || n == 64<<20 {
			t.Errorf("Write: %d, %v", n, err)
		}
	})
	w.until("write", func() bool { return w.Status().BytesOut > 1<<20 })
	conn.SetDeadline(past)
	blocked.Wait()
	if _, err := conn.Read(make([]byte, 1)); !isTimeout(err) {
		t.Errorf("Read after the deadline: %v", err)
	}
	if _, err := conn.Write([]byte("x")); !isTimeout(err) {
		t.Errorf("Write after the deadline: %v", err)
	}
	conn.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read after Close: %v", err)
	}
	if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
	close(w.held)
}

// Bytes that were written before Close arrive.
func TestClose(t *testing.T) {
	w := start(t, nil)
	conn := w.dial()
	const size = 4 << 20
	w.request(conn, 'd', size)
	if _, err := conn.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	w.until("bytes", func() bool { return w.gateway.Counts().BytesUp >= size && w.gateway.Counts().OpenStreams == 0 })
}

// A client that does not read fills the buffer. It is disconnected once others have waited for
// too long, and they go on.
func TestStuckClient(t *testing.T) {
	t.Parallel()
	w := start(t, func(w *world) { w.SetStuck(1<<20, 2*time.Second) })
	stuck := w.dial()
	w.request(stuck, 's', 8<<20)
	w.until("full buffer", func() bool { return w.gateway.Counts().BytesDown > 3<<19 })
	w.echo(w.dial(), 100<<10)
	n, err := io.Copy(io.Discard, stuck)
	if pgwire.ReasonOf(err) == "" || n == 0 || n >= 8<<20 {
		t.Errorf("got %d bytes, %v", n, err)
	}
	if w.Status().State != ssm.Open {
		t.Errorf("got %+v", w.Status())
	}
	close(w.held)
}

// A client that reads slowly, or late, stays if it holds up no other.
func TestLateReader(t *testing.T) {
	t.Parallel()
	w := start(t, func(w *world) { w.SetStuck(1<<20, time.Second) })
	conn := w.dial()
	w.request(conn, 's', 4<<20)
	w.until("full buffer", func() bool { return w.gateway.Counts().BytesDown > 3<<19 })
	time.Sleep(2500 * time.Millisecond)
	if _, err := io.CopyN(io.Discard, conn, 4<<20); err != nil {
		t.Error(err)
	}
	close(w.held)
}

// BenchmarkUpload sends data to a server that returns its hash.
func BenchmarkUpload(b *testing.B) {
	w := start(b, nil)
	const size = 16 << 20
	data := make([]byte, size)
	b.SetBytes(size)
	for b.Loop() {
		conn := w.dial()
		w.request(conn, 'd', size)
		if _, err := conn.Write(data); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, sha256.Size)); err != nil {
			b.Fatal(err)
		}
		conn.Close()
	}
}

// BenchmarkDownload receives data from an agent that does not pause.
func BenchmarkDownload(b *testing.B) {
	w := start(b, nil)
	const size = 16 << 20
	b.SetBytes(size)
	for b.Loop() {
		conn := w.dial()
		w.request(conn, 's', size)
		if _, err := io.CopyN(io.Discard, conn, size); err != nil {
			b.Fatal(err)
		}
		conn.Close()
	}
	close(w.held)
}

func TestManySessions(t *testing.T) {
	w := start(t, nil)
	for range 10 {
		var clients sync.WaitGroup
		for range 20 {
			clients.Go(func() {
				conn := w.dial()
				w.echo(conn, 100)
				conn.Close()
			})
		}
		clients.Wait()
	}
	w.until("close", func() bool { return w.gateway.Counts().OpenStreams == 0 && w.Status().Streams == 0 })
}
