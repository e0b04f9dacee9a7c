package relay

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/test/conntest"
	"github.com/iamproxy/iamproxy/test/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m, netconn.SetPlainIO) }

// tcpPair returns both ends of a TCP connection.
func tcpPair(t *testing.T) (ours *netconn.Conn, theirs *net.TCPConn) {
	t.Helper()
	conn, theirs := conntest.TCPPair(t)
	return netconn.New(conn), theirs
}

// copying is a Copy that runs between two peers.
type copying struct {
	Direction
	from, to *net.TCPConn  // the peers of source and destination
	src      *netconn.Conn // source
	done     chan struct{} // closed when Copy has returned
}

func startCopy(t *testing.T, hook func(b []byte) bool) *copying {
	t.Helper()
	c := &copying{done: make(chan struct{})}
	c.Bytes = new(atomic.Int64)
	var dst *netconn.Conn
	c.src, c.from = tcpPair(t)
	dst, c.to = tcpPair(t)
	go func() {
		defer close(c.done)
		c.Copy(dst, c.src, hook)
	}()
	t.Cleanup(func() {
		c.from.Close()
		<-c.done
	})
	return c
}

func write(t *testing.T, conn net.Conn, data []byte) {
	t.Helper()
	if _, err := conn.Write(data); err != nil {
		t.Error(err)
	}
}

func expect(t *testing.T, conn net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v, want %d", n, err, len(want))
	}
}

func TestCopyUntilSourceCloses(t *testing.T) {
	c := startCopy(t, nil)
	data := bytes.Repeat([]byte("data"), 1<<20)
	go func() {
		write(t, c.from, data)
		c.from.Close()
	}()
	expect(t, c.to, data)
	<-c.done
	if !errors.Is(c.ReadErr, io.EOF) || c.WriteErr != nil || c.Stopped || c.Bytes.Load() != int64(len(data)) {
		t.Errorf("read error %v, write error %v, stopped %v, %d bytes", c.ReadErr, c.WriteErr, c.Stopped, c.Bytes.Load())
	}
}

func TestCopyUntilSourceResets(t *testing.T) {
	c := startCopy(t, nil)
	write(t, c.from, []byte("data"))
	expect(t, c.to, []byte("data"))
	_ = c.from.SetLinger(0)
	c.from.Close()
	<-c.done
	if runtime.GOOS == "linux" && !errors.Is(c.ReadErr, syscall.ECONNRESET) || c.ReadErr == nil || c.WriteErr != nil {
		t.Errorf("read error %v, write error %v, want a reset", c.ReadErr, c.WriteErr)
	}
}

func TestCopyUntilDestinationFails(t *testing.T) {
	c := startCopy(t, nil)
	_ = c.to.SetLinger(0)
	c.to.Close()
	for open := true; open; { // one write may succeed
		select {
		case <-c.done:
			open = false
		default:
			write(t, c.from, []byte("data"))
		}
	}
	if c.ReadErr != nil || !netconn.IsDisconnect(c.WriteErr) {
		t.Errorf("read error %v, write error %v, want only the latter", c.ReadErr, c.WriteErr)
	}
}

// The hook is called before a chunk is sent. The chunk that it stops at is not.
func TestCopyUntilHookStops(t *testing.T) {
	chunks, stop := make(chan string), make(chan bool)
	c := startCopy(t, func(b []byte) bool {
		if len(b) == 0 { // nothing to read yet
			return false
		}
		chunks <- string(b)
		return <-stop
	})
	write(t, c.from, []byte("data"))
	if chunk := <-chunks; chunk != "data" || c.Bytes.Load() != 0 {
		t.Errorf("the hook got %q, after %d bytes", chunk, c.Bytes.Load())
	}
	stop <- false
	expect(t, c.to, []byte("data"))
	write(t, c.from, []byte("more"))
	if chunk := <-chunks; chunk != "more" {
		t.Errorf("the hook got %q", chunk)
	}
	stop <- true
	<-c.done
	if !c.Stopped || c.ReadErr != nil || c.WriteErr != nil || c.Bytes.Load() != 4 {
		t.Errorf("stopped %v, read error %v, write error %v, %d bytes", c.Stopped, c.ReadErr, c.WriteErr, c.Bytes.Load())
	}
}

// A deadline interrupts Copy while there is nothing to read. It can be called again.
func TestCopyInterrupted(t *testing.T) {
	c := startCopy(t, nil)
	write(t, c.from, []byte("data"))
	expect(t, c.to, []byte("data"))
	c.src.SetReadDeadline(netconn.LongAgo)
	<-c.done
	if !errors.Is(c.ReadErr, os.ErrDeadlineExceeded) || c.WriteErr != nil || c.Stopped {
		t.Errorf("read error %v, write error %v, stopped %v", c.ReadErr, c.WriteErr, c.Stopped)
	}
	c.src.SetReadDeadline(time.Time{})
	again := Direction{Bytes: c.Bytes}
	dst, peer := tcpPair(t)
	go func() {
		write(t, c.from, []byte("more"))
		c.from.Close()
	}()
	again.Copy(dst, c.src, nil)
	expect(t, peer, []byte("more"))
	if !errors.Is(again.ReadErr, io.EOF) || c.Bytes.Load() != 8 {
		t.Errorf("read error %v, %d bytes", again.ReadErr, c.Bytes.Load())
	}
}

// directionOf returns a direction in which these chunks were copied.
func directionOf(chunks ...string) *Direction {
	d := &Direction{Bytes: new(atomic.Int64)}
	for _, chunk := range chunks {
		d.count([]byte(chunk))
	}
	return d
}

func TestTerminatedCleanly(t *testing.T) {
	const terminate, ready = "X\x00\x00\x00\x04", "Z\x00\x00\x00\x05I"
	for name, test := range map[string]struct {
		up, down []string
		want     bool
	}{
		"nothing sent":           {nil, nil, false},
		"Terminate only":         {[]string{terminate}, nil, true},
		"after a response":       {[]string{"query", terminate}, []string{"rows", ready}, true},
		"in one chunk":           {[]string{"query" + terminate}, []string{"rows" + ready}, true},
		"byte by byte":           {[]string{"q", "X", "\x00", "\x00", "\x00", "\x04"}, []string{"Z", "\x00", "\x00", "\x00", "\x05", "T"}, true},
		"within a response":      {[]string{"query", terminate}, []string{ready, "rows"}, false},
		"FATAL":                  {[]string{"query", terminate}, []string{ready, "E\x00\x00\x00\x05\x00"}, false},
		"no Terminate":           {[]string{terminate, "query"}, []string{ready}, false},
		"part of Terminate":      {[]string{terminate[:4]}, []string{ready}, false},
		"part of ReadyForQuery":  {[]string{terminate}, []string{ready[:5]}, false},
		"other message of X":     {[]string{"X\x00\x00\x00\x05"}, []string{ready}, false},
		"ReadyForQuery and more": {[]string{terminate}, []string{ready + "N"}, false},
	} {
		if got := TerminatedCleanly(directionOf(test.up...), directionOf(test.down...)); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Only the first end of a direction counts, and it is that of the connection that failed.
func TestTerminationRecord(t *testing.T) {
	var first Termination
	first.Record(&Direction{WriteErr: syscall.EPIPE}, Client, Server)
	first.Record(&Direction{ReadErr: io.EOF}, Server, Client)
	if first.Side != Server || !errors.Is(first.Err, syscall.EPIPE) {
		t.Errorf("%s: %v, want the server's", first.Side, first.Err)
	}
	var second Termination
	second.Record(&Direction{ReadErr: io.EOF}, Client, Server)
	if second.Side != Client || !errors.Is(second.Err, io.EOF) {
		t.Errorf("%s: %v, want the client's", second.Side, second.Err)
	}
}

func TestTerminationCause(t *testing.T) {
	opError := func(err error) error { return &net.OpError{Op: "read", Err: os.NewSyscallError("read", err)} }
	for _, test := range []struct {
		err  error
		want Cause
	}{
		{io.EOF, Closed},
		{io.ErrUnexpectedEOF, Closed},
		{opError(syscall.ECONNRESET), Reset},
		{opError(syscall.EPIPE), Reset},
		{opError(syscall.ETIMEDOUT), Vanished}, // keep-alive or user timeout
		{opError(syscall.EHOSTUNREACH), Vanished},
		{opError(syscall.ENETUNREACH), Vanished},
		{errors.New("tls: bad record MAC"), Broke},
	} {
		if got := (&Termination{Err: test.err}).Cause(); got != test.want {
			t.Errorf("%v: %s, want %s", test.err, got, test.want)
		}
	}
}
