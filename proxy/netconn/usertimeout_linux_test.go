package netconn

import (
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/iamproxy/iamproxy/test/conntest"
)

// The user timeout is lifted exactly while a peer that is alive does not read.
func TestUserTimeout(t *testing.T) {
	eachIO(t, func(t *testing.T, plain bool) {
		ours, theirs := conntest.TCPPair(t)
		conn := newConn(ours, plain)
		timeout := func() (milliseconds int) {
			conn.Socket().Control(func(fd int) {
				milliseconds, _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
			})
			return milliseconds
		}
		set := int(UserTimeout.Milliseconds())

		conn.Socket().SetUserTimeout()
		if got := timeout(); got != set {
			t.Errorf("the timeout of a new connection is %d ms", got)
		}
		written := make(chan error, 1)
		go func() {
			_, err := conn.Write(make([]byte, 64<<20)) // more than all buffers have room for
			written <- err
		}()
		until(t, func() bool { conn.Socket().UpdateUserTimeout(); return timeout() == 0 })
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		until(t, func() bool { conn.Socket().UpdateUserTimeout(); return timeout() == set })
		if err := <-written; err != nil {
			t.Error(err)
		}

		until(t, func() bool { conn.Socket().UpdateUserTimeout(); return !conn.Socket().unacked })
		conn.Socket().Control(func(fd int) { _ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1) })
		conn.Socket().UpdateUserTimeout()
		if got := timeout(); got != 1 {
			t.Errorf("the timeout was set to %d ms while nothing was written", got)
		}
	})
}
