package proxy

import (
	"errors"
	"net"
	"os"
	"time"
)

// arrivalTime is how long is waited for what has arrived where that cannot be told
// without waiting.
const arrivalTime = time.Millisecond

// arrived takes note of what the server has said while it was idle, without waiting
// for more. The error is that of a connection that has ended, or will in a moment.
func (u *upstream) arrived() error {
	u.socket.setAwaited(true)
	defer u.socket.setAwaited(false)
	if !u.socket.canPoll() {
		u.SetReadDeadline(time.Now().Add(arrivalTime))
		defer u.SetReadDeadline(time.Time{})
	}
	buffer := buffers.Get().(*[copyBuffer]byte)
	defer buffers.Put(buffer)
	framing := &u.spare.framing
	for {
		n, err := u.Read(buffer[:])
		framing.scan(buffer[:n])
		more := err == nil
		if errors.Is(err, errNotYet) {
			more, err = u.socket.poll()
		}
		switch {
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case more:
		case !framing.idle():
			return errNotReady
		default:
			return nil
		}
	}
}

// quiet reports whether nothing was said that was not read. It may not know.
func (l *leg) quiet() bool {
	if !l.socket.canPoll() || l.Conn != net.Conn(l.socket) || len(l.ahead) > 0 {
		return false
	}
	arrived, err := l.socket.poll()
	return err == nil && (!arrived || l.socket.atEnd())
}
