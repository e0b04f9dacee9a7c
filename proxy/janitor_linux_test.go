package proxy

import (
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// The user timeout is off while a server that is alive does not read, and only then.
func TestUserTimeoutOffWhileServerStalls(t *testing.T) {
	proceed := make(chan struct{})
	received := make(chan int64, 1)
	ca, s := trustedServer(t, func(p *peer) {
		p.acceptLogin()
		<-proceed
		n, _ := io.Copy(io.Discard, p)
		received <- n
	})
	p, address := startProxy(t, ca, s, nil)
	client := openSession(t, address)
	eventually(t, "the timeout of a new session", func() bool { return userTimeoutOf(t, p) == int(netconn.UserTimeout.Milliseconds()) })

	const size = 64 << 20 // more than all buffers hold
	go func() {
		client.send(make([]byte, size))
		client.Close()
	}()
	eventually(t, "the timeout to be off", func() bool {
		p.sessions.updateUserTimeouts()
		return userTimeoutOf(t, p) == 0
	})
	close(proceed)
	restored := false
	eventually(t, "the timeout to be back", func() bool {
		p.sessions.updateUserTimeouts()
		restored = restored || userTimeoutOf(t, p) == int(netconn.UserTimeout.Milliseconds())
		return restored || len(received) > 0
	})
	if n := <-received; n != size {
		t.Errorf("the server received %d bytes of %d", n, size)
	}
	if !restored {
		t.Error("the timeout was not set again while the session lasted")
	}
}

// userTimeoutOf returns the user timeout of the one connection to the server.
func userTimeoutOf(t *testing.T, p *Proxy) (milliseconds int) {
	t.Helper()
	p.sessions.mu.Lock()
	defer p.sessions.mu.Unlock()
	for _, server := range p.sessions.servers {
		if server == nil {
			continue
		}
		milliseconds = -1
		server.Socket().Control(func(fd int) {
			milliseconds, _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		})
	}
	return milliseconds
}
