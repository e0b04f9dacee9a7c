package netconn

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/conntest"
)

// receive reads from c like a relay, until it has n bytes or a read fails.
func receive(c *Conn, n int) ([]byte, error) {
	c.Socket().SetPolling(true)
	defer c.Socket().SetPolling(false)
	var got []byte
	buffer := GetBuffer()
	defer PutBuffer(buffer)
	for len(got) < n {
		m, err := c.Read(buffer[:])
		got = append(got, buffer[:m]...)
		if errors.Is(err, ErrWouldBlock) {
			err = c.Socket().WaitReadable()
		}
		if err != nil {
			return got, err
		}
	}
	return got, nil
}

func TestReadAndWrite(t *testing.T) {
	data := make([]byte, 4<<20)
	_, _ = rand.Read(data)
	eachIO(t, func(t *testing.T, plain bool) {
		eachTLS(t, func(t *testing.T, version uint16) {
			conn, peer := connPair(t, plain, version)
			for _, write := range []func([]byte) (int, error){peer.Write, conn.Write} {
				go func() { _, _ = write(data) }()
			}
			echoed := make(chan []byte, 1)
			go func() {
				b := make([]byte, len(data))
				_, _ = io.ReadFull(peer, b)
				echoed <- b
			}()
			if got, err := receive(conn, len(data)); err != nil || !bytes.Equal(got, data) {
				t.Errorf("received %d bytes, %v, not those that were sent", len(got), err)
			}
			if !bytes.Equal(<-echoed, data) {
				t.Error("the peer received other bytes than those that were sent")
			}
		})
	})
}

// sliced passes on what is written to it a few bytes at a time, each in a segment of
// its own.
type sliced struct {
	net.Conn
	size int
}

func (s *sliced) Write(b []byte) (written int, err error) {
	for written < len(b) && err == nil {
		n, err := s.Conn.Write(b[written:min(len(b), written+s.size)])
		written += n
		if err != nil {
			return written, err
		}
		time.Sleep(100 * time.Microsecond) // lets the reader find a part of a record
	}
	return written, nil
}

// TLS records arrive in pieces: a read may find any part of a header or of the data.
func TestPiecesOfRecords(t *testing.T) {
	messages := [][]byte{[]byte("short"), bytes.Repeat([]byte("long"), 20), {}, []byte("x")}
	all := bytes.Join(messages, nil)
	eachIO(t, func(t *testing.T, plain bool) {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, size := range []int{1, 4, 5, 6, 50} {
				ours, theirs := conntest.TCPPair(t)
				conn := newConn(ours, plain)
				server, client := tlsConfigs(t, version)
				cut := &sliced{Conn: theirs, size: 1 << 20}
				secure := tls.Client(cut, client)
				done := make(chan error, 1)
				go func() {
					err := secure.Handshake()
					cut.size = size
					for _, m := range messages {
						_, writeErr := secure.Write(m)
						err = errors.Join(err, writeErr)
					}
					done <- err
				}()
				if err := conn.StartTLS(t.Context(), tls.Server(conn.Socket(), server)); err != nil {
					t.Fatal(err)
				}
				if got, err := receive(conn, len(all)); err != nil || !bytes.Equal(got, all) {
					t.Errorf("%s in pieces of %d: received %q, %v", tls.VersionName(version), size, got, err)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
	})
}

func TestInterruptedWait(t *testing.T) {
	eachIO(t, func(t *testing.T, plain bool) {
		eachTLS(t, func(t *testing.T, version uint16) {
			conn, peer := connPair(t, plain, version)
			timer := time.AfterFunc(10*time.Millisecond, func() { conn.SetReadDeadline(LongAgo) })
			defer timer.Stop()
			if got, err := receive(conn, 1); len(got) > 0 || !IsTimeout(err) {
				t.Fatalf("received %q, %v, want a timeout", got, err)
			}
			conn.SetReadDeadline(time.Now().Add(limit))
			if _, err := peer.Write([]byte("on")); err != nil {
				t.Fatal(err)
			}
			if got, err := receive(conn, 2); err != nil || string(got) != "on" {
				t.Errorf("received %q, %v after that", got, err)
			}
		})
	})
}

func TestUnread(t *testing.T) {
	eachIO(t, func(t *testing.T, plain bool) {
		eachTLS(t, func(t *testing.T, version uint16) {
			conn, peer := connPair(t, plain, version)
			if _, err := peer.Write([]byte("abcdef")); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := conn.ReadAhead(); err != nil {
					t.Fatal(err)
				}
			}
			head := make([]byte, 3)
			if _, err := io.ReadFull(conn, head); err != nil || string(head) != "abc" {
				t.Errorf("read %q, %v", head, err)
			}
			conn.Unread(head[2:])
			conn.Unread(head[:2])
			if got, err := receive(conn, 6); err != nil || string(got) != "abcdef" {
				t.Errorf("received %q, %v", got, err)
			}
		})
	})
}

// A client may begin TLS with its first byte.
func TestStartTLSAfterUnread(t *testing.T) {
	eachIO(t, func(t *testing.T, plain bool) {
		ours, theirs := conntest.TCPPair(t)
		conn := newConn(ours, plain)
		server, client := tlsConfigs(t, 0)
		go func() { _, _ = tls.Client(theirs, client).Write([]byte("inside")) }()
		head := make([]byte, 4)
		if _, err := io.ReadFull(conn, head); err != nil {
			t.Fatal(err)
		}
		conn.Unread(head)
		if err := conn.StartTLS(t.Context(), tls.Server(conn.Socket(), server)); err != nil {
			t.Fatal(err)
		}
		if state, ok := conn.ConnectionState(); !ok || !conn.Encrypted() || !state.HandshakeComplete {
			t.Errorf("ConnectionState() = %+v, %v", state, ok)
		}
		if got, err := receive(conn, 6); err != nil || string(got) != "inside" {
			t.Errorf("received %q, %v", got, err)
		}
	})
}

func TestStartTLSFails(t *testing.T) {
	eachIO(t, func(t *testing.T, plain bool) {
		ours, theirs := conntest.TCPPair(t)
		conn := newConn(ours, plain)
		server, _ := tlsConfigs(t, 0)
		go func() { _, _ = theirs.Write([]byte("this is no TLS")) }()
		var header tls.RecordHeaderError
		if err := conn.StartTLS(t.Context(), tls.Server(conn.Socket(), server)); !errors.As(err, &header) {
			t.Errorf("StartTLS: %v", err)
		}
		if _, ok := conn.ConnectionState(); ok || conn.Encrypted() {
			t.Error("the connection uses TLS")
		}
		go func() { _, _ = conn.Write([]byte("error")) }()
		b := make([]byte, 5)
		if _, err := io.ReadFull(theirs, b); err != nil || string(b) != "error" {
			t.Errorf("the peer read %q, %v", b, err)
		}
	})
}

func TestDrainPending(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 5000)
	for name, test := range map[string]struct {
		peer func(*peer)
		want []byte
		err  func(error) bool
	}{
		"nothing":          {func(*peer) {}, nil, nil},
		"data":             {func(p *peer) { _, _ = p.Write(data) }, data, nil},
		"data and the end": {func(p *peer) { _, _ = p.Write(data); p.Close() }, data, IsClosed},
		"no close_notify":  {func(p *peer) { p.tcp.Close() }, nil, IsClosed},
		"reset":            {func(p *peer) { p.reset() }, nil, hasEnded},
	} {
		t.Run(name, func(t *testing.T) {
			eachIO(t, func(t *testing.T, plain bool) {
				eachTLS(t, func(t *testing.T, version uint16) {
					conn, peer := connPair(t, plain, version)
					test.peer(peer)
					var got []byte
					err := conn.DrainPending(func(b []byte) { got = append(got, b...) })
					for deadline := time.Now().Add(limit); err == nil && (len(got) < len(test.want) || test.err != nil) && time.Now().Before(deadline); {
						err = conn.DrainPending(func(b []byte) { got = append(got, b...) }) // it may arrive later
					}
					if !bytes.Equal(got, test.want) {
						t.Errorf("got %d bytes, want %d", len(got), len(test.want))
					}
					if test.err == nil && err != nil || test.err != nil && !test.err(err) {
						t.Errorf("got %v", err)
					}
				})
			})
		})
	}
}

// hasEnded is IsHangup where resets have the error number that it looks for.
func hasEnded(err error) bool { return IsHangup(err) || runtime.GOOS == "windows" }

func TestNoUnreadData(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("not known on this system")
	}
	conn, peer := connPair(t, false, 0)
	if !conn.NoUnreadData() {
		t.Error("data before any was sent")
	}
	if _, err := peer.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	peer.Close()
	until(t, func() bool { return !conn.NoUnreadData() })
	if err := conn.ReadAhead(); err != nil {
		t.Fatal(err)
	}
	if conn.NoUnreadData() {
		t.Error("no data while some is put back")
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	until(t, conn.NoUnreadData)

	for _, conn := range []*Conn{first(connPair(t, true, 0)), first(connPair(t, false, tls.VersionTLS13))} {
		if conn.NoUnreadData() {
			t.Error("known with plain I/O or with TLS")
		}
	}
}

func first(c *Conn, _ *peer) *Conn { return c }

// until waits for a condition.
func until(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the condition did not come true in time")
		}
	}
}

func TestCloseWrite(t *testing.T) {
	eachIO(t, func(t *testing.T, plain bool) {
		eachTLS(t, func(t *testing.T, version uint16) {
			conn, peer := connPair(t, plain, version)
			if err := conn.CloseWrite(); err != nil {
				t.Error(err)
			}
			if n, err := peer.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("the peer read %d bytes, %v, want the end", n, err)
			}
			if n, err := peer.tcp.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("the peer read %d bytes below TLS, %v, want a FIN", n, err)
			}
			if _, err := peer.Write([]byte("reply")); err != nil {
				t.Error(err)
			}
			if got, err := receive(conn, 5); err != nil || string(got) != "reply" {
				t.Errorf("received %q, %v", got, err)
			}
		})
	})
}

func TestAbort(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a reset may discard data that the peer has received")
	}
	data := bytes.Repeat([]byte("0123456789"), 1000)
	for name, test := range map[string]struct {
		cause error
		end   func(error) bool
	}{
		"the other connection was reset":  {syscall.ECONNRESET, func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }},
		"the other connection was closed": {net.ErrClosed, func(err error) bool { return err == nil }},
	} {
		t.Run(name, func(t *testing.T) {
			eachIO(t, func(t *testing.T, plain bool) {
				eachTLS(t, func(t *testing.T, version uint16) {
					conn, peer := connPair(t, plain, version)
					if _, err := conn.Write(data); err != nil {
						t.Fatal(err)
					}
					conn.Abort(test.cause)
					if got, err := io.ReadAll(peer); !bytes.Equal(got, data) || !test.end(err) {
						t.Errorf("the peer read %d bytes, %v", len(got), err)
					}
				})
			})
		})
	}
}

func TestReadError(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only known on Linux")
	}
	eachIO(t, func(t *testing.T, plain bool) {
		conn, peer := connPair(t, plain, 0)
		peer.reset()
		var err error
		until(t, func() bool { // the write reports the reset, not the read
			_, err = conn.Write([]byte("x"))
			return err != nil
		})
		_, err = receive(conn, 1)
		if err = conn.ReadError(err); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want a reset", err)
		}

		conn, peer = connPair(t, plain, 0)
		peer.Close()
		_, err = receive(conn, 1)
		if err = conn.ReadError(err); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want EOF", err)
		}
	})
}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		err                                   error
		closed, hangup, disconnected, timeout bool
	}{
		{io.EOF, true, true, true, false},
		{&net.OpError{Op: "read", Err: io.ErrUnexpectedEOF}, true, true, true, false},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, false, true, true, false},
		{&net.OpError{Op: "write", Err: os.NewSyscallError("write", syscall.EPIPE)}, false, true, true, false},
		{&net.OpError{Op: "write", Err: os.NewSyscallError("wsasend", syscall.ECONNABORTED)}, false, true, true, false},
		{net.ErrClosed, false, false, true, false},
		{os.ErrDeadlineExceeded, false, false, false, true},
		{&net.OpError{Op: "read", Err: syscall.ETIMEDOUT}, false, false, false, true},
		{ErrWouldBlock, false, false, false, false},
		{nil, false, false, false, false},
	} {
		if IsClosed(test.err) != test.closed || IsHangup(test.err) != test.hangup ||
			IsDisconnect(test.err) != test.disconnected || IsTimeout(test.err) != test.timeout {
			t.Errorf("%v: IsClosed %v, IsHangup %v, IsDisconnect %v, IsTimeout %v", test.err,
				IsClosed(test.err), IsHangup(test.err), IsDisconnect(test.err), IsTimeout(test.err))
		}
	}
}
