package relay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// started is a session on an event loop.
type started struct {
	client, server           *net.TCPConn // the peers
	clientSocket, serverConn *netconn.Conn
	up, down                 Direction
	done                     chan struct{}
}

func start(t *testing.T) *started {
	t.Helper()
	s := &started{done: make(chan struct{})}
	s.up.Bytes, s.down.Bytes = new(atomic.Int64), new(atomic.Int64)
	s.clientSocket, s.client = tcpPair(t)
	s.serverConn, s.server = tcpPair(t)
	t.Cleanup(func() { s.clientSocket.Close(); s.serverConn.Close() })
	if os.Getenv("IAMPROXY_PLAIN_IO") == "1" {
		t.Skip("no event loop with plain I/O")
	}
	if !Start(s.clientSocket, s.serverConn, &s.up, &s.down, func() { close(s.done) }) {
		t.Fatal("no event loop")
	}
	return s
}

// finish does what a session does when the loop has stopped, for both directions.
func (s *started) finish() {
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		s.up.Copy(s.serverConn, s.clientSocket, nil)
		_ = s.serverConn.CloseWrite()
	}()
	s.down.Copy(s.clientSocket, s.serverConn, nil)
	_ = s.clientSocket.CloseWrite()
	<-copied
}

func TestStart(t *testing.T) {
	s := start(t)
	for range 3 {
		write(t, s.client, []byte("query"))
		expect(t, s.server, []byte("query"))
		write(t, s.server, []byte("rows"))
		expect(t, s.client, []byte("rows"))
	}
	for s.up.Bytes.Load() < 15 || s.down.Bytes.Load() < 12 { // bytes are counted after they were sent
		time.Sleep(time.Millisecond)
	}
	if s.up.Bytes.Load() != 15 || s.down.Bytes.Load() != 12 {
		t.Errorf("%d bytes up, %d down", s.up.Bytes.Load(), s.down.Bytes.Load())
	}
	write(t, s.client, []byte("last"))
	_ = s.client.CloseWrite()
	<-s.done
	if !errors.Is(s.up.ReadErr, io.EOF) || s.down.Ended() {
		t.Errorf("up: %v; down has ended: %v", s.up.ReadErr, s.down.Ended())
	}
	finished := make(chan struct{})
	go func() { s.finish(); close(finished) }()
	expect(t, s.server, []byte("last"))
	if _, err := s.server.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the server read %v, want the client's end", err)
	}
	write(t, s.server, []byte("response"))
	s.server.Close()
	expect(t, s.client, []byte("response"))
	<-finished
}

// What was read ahead is copied first.
func TestStartUnread(t *testing.T) {
	s := &started{done: make(chan struct{})}
	s.up.Bytes, s.down.Bytes = new(atomic.Int64), new(atomic.Int64)
	s.clientSocket, s.client = tcpPair(t)
	s.serverConn, s.server = tcpPair(t)
	t.Cleanup(func() { s.clientSocket.Close(); s.serverConn.Close() })
	s.clientSocket.Unread([]byte("early "))
	write(t, s.client, []byte("query"))
	if !Start(s.clientSocket, s.serverConn, &s.up, &s.down, func() { close(s.done) }) {
		go s.finish()
	}
	expect(t, s.server, []byte("early query"))
}

// A client that does not read stops the server, but not its own direction. All bytes arrive in
// the end, in their order.
func TestStartCongested(t *testing.T) {
	s := start(t)
	s.stall(t)
	write(t, s.client, []byte("query"))
	expect(t, s.server, []byte("query"))

	stalled := s.down.Bytes.Load()
	got := make([]byte, stalled)
	if _, err := io.ReadFull(s.client, got); err != nil || !bytes.Equal(got, sent[:stalled]) {
		t.Errorf("%v, or other bytes than those that were sent", err)
	}
}

// A session that ends while it is congested delivers what the server has sent before.
func TestStartEndsCongested(t *testing.T) {
	s := start(t)
	s.stall(t)
	_ = s.client.CloseWrite()
	<-s.done
	go s.finish()
	got := make([]byte, s.down.Bytes.Load())
	if _, err := io.ReadFull(s.client, got); err != nil || !bytes.Equal(got, sent[:len(got)]) {
		t.Errorf("%v, or other bytes than those that were sent", err)
	}
}

// A server that is gone ends the session even if the client does not read.
func TestStartResetCongested(t *testing.T) {
	s := start(t)
	s.stall(t)
	_ = s.server.SetLinger(0)
	s.server.Close()
	<-s.done
}

func TestStartClosed(t *testing.T) {
	for name, closing := range map[string]func(*started) error{
		"client": func(s *started) error { return s.clientSocket.Close() },
		"server": func(s *started) error { return s.serverConn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			if err := closing(s); err != nil {
				t.Error(err)
			}
			<-s.done
			if err := errors.Join(s.up.ReadErr, s.down.ReadErr); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the directions ended with %v", err)
			}
			if err := closing(s); !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed again: %v", err)
			}
		})
	}
}

// stall has the server send until no more bytes are relayed, because the client does not read.
func (s *started) stall(t *testing.T) {
	t.Helper()
	go func() { _, _ = s.server.Write(sent) }()
	for before := int64(-1); ; time.Sleep(50 * time.Millisecond) {
		now := s.down.Bytes.Load()
		if now > 0 && now == before && s.clientSocket.Socket().Congested() {
			return
		}
		before = now
	}
}

// sent is more than all buffers hold. Each part of it is different.
var sent = func() []byte {
	b := make([]byte, 64<<20)
	for i := 0; i < len(b); i += 4 {
		binary.LittleEndian.PutUint32(b[i:], uint32(i))
	}
	return b
}()
