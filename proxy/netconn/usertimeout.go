package netconn

import "time"

const (
	// UserTimeout is the maximum time that bytes or keep-alives stay unacknowledged before
	// the connection fails (TCP_USER_TIMEOUT, tcp(7)).
	UserTimeout = 20 * time.Second
	// UserTimeoutInterval is how often to call UpdateUserTimeout. It is well below
	// UserTimeout.
	UserTimeoutInterval = 5 * time.Second
)

// SetUserTimeout sets the user timeout of a new connection. Set before the connection
// is established, it would limit the time to connect.
func (s *Socket) SetUserTimeout() { s.unacked = adjustUserTimeout(s) }

// UpdateUserTimeout keeps the user timeout from ending the connection to a peer that is
// alive but does not read, such as a server that waits for a lock in the middle of a COPY.
// Linux counts the time in which the peer's window is closed, even if the peer acknowledges
// the probes (tcp_probe_timer in net/ipv4/tcp_timer.c). While it acknowledges them, the
// timeout is lifted.
//
// As a result, a peer that vanishes after it has not read for long is noticed only when two
// probes are unacknowledged. Linux sends them up to 2 minutes apart.
//
// A connection without anything to send costs no system call.
func (s *Socket) UpdateUserTimeout() {
	if s.wrote.Swap(false) || s.unacked {
		s.unacked = adjustUserTimeout(s)
	}
}
