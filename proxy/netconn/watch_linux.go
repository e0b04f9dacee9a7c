package netconn

import (
	"cmp"
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Watched is one of two connections that a loop relays to each other.
type Watched struct {
	Conn *Conn
	// Readable copies what can be read without waiting to the other connection, until that
	// is congested. It reports false when the direction has ended.
	Readable func() (more bool)
}

// Watch starts to relay between two connections on an event loop, until a direction ends or
// a connection is closed. Then package net has the sockets again, and Watch calls done in a
// new goroutine. It reports false, and does not call done, if no loop can have the sockets
// or a direction has ended already.
//
// Readable must not wait. During the relay, other goroutines may close the connections, but
// not read or write.
func Watch(a, b Watched, done func()) bool {
	first, err := firstLoop()
	if err != nil {
		return false
	}
	w := &watch{sockets: [2]*Socket{a.Conn.socket, b.Conn.socket}, done: done}
	if !w.detach() {
		return false
	}
	for i, side := range []Watched{a, b} {
		s := w.sockets[i]
		s.loop.watch, s.loop.index, s.loop.readable = w, i, side.Readable
		s.polling = true
	}
	// What was read ahead is copied now: no event will announce it.
	if !w.resume(0) || !w.resume(1) || !first.add(w) {
		w.reattach()
		return false
	}
	return true
}

// watch holds both sockets of a session. Only the loop that has them uses it.
type watch struct {
	sockets [2]*Socket
	paused  [2]bool // this socket is not read, because the other one is congested
	done    func()

	round uint64 // of the loop that has considered the session for a move
}

// loopSocket is a Socket's part in a loop. Its zero value is a socket that no loop has.
type loopSocket struct {
	watch    *watch
	index    int // of the socket in watch
	readable func() bool

	// Only the loop that has the socket uses these.
	loop   *loop
	events uint32 // that it waits for

	// The Socket's mu guards these.
	fd     int
	unsent []byte // written, while the socket had no room
	closed bool   // by Close
}

func (s *loopSocket) active() bool { return s.fd != 0 }

// write sends what the socket has room for, and keeps the rest.
func (s *loopSocket) write(b []byte) (int, error) {
	if s.closed {
		return 0, net.ErrClosed
	}
	rest := b
	if len(s.unsent) == 0 {
		var errno syscall.Errno
		if rest, errno = send(uintptr(s.fd), b); errno != 0 {
			return len(b) - len(rest), os.NewSyscallError("write", errno)
		}
	}
	s.unsent = append(s.unsent, rest...)
	return len(b), nil
}

// close ends the connection. The descriptor stays open until the loop has noticed.
func (s *loopSocket) close() error {
	if s.closed {
		return net.ErrClosed
	}
	s.closed = true
	return os.NewSyscallError("shutdown", unix.Shutdown(s.fd, unix.SHUT_RDWR))
}

// Congested reports whether a loop has to send first what was written to the socket.
func (s *Socket) Congested() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.loop.unsent) > 0
}

// detach takes both sockets out of the poller of package net. If it reports false, both stay
// as they are.
func (w *watch) detach() bool {
	var fds [2]int
	for i, s := range w.sockets {
		s.mu.Lock()
		defer s.mu.Unlock()
		var err error
		if fds[i], err = s.duplicate(); err != nil {
			if i == 1 {
				_ = unix.Close(fds[0])
			}
			return false
		}
	}
	for i, s := range w.sockets {
		s.conn.Close()
		s.loop = loopSocket{fd: fds[i]}
	}
	return true
}

// duplicate returns another descriptor of the socket. It is not 0, which means none.
func (s *Socket) duplicate() (fd int, err error) {
	if !s.raw.enabled() {
		return 0, errors.ErrUnsupported
	}
	failed := s.raw.conn.Control(func(open uintptr) { fd, err = unix.FcntlInt(open, unix.F_DUPFD_CLOEXEC, 1) })
	return fd, cmp.Or(failed, err)
}

// reattach returns the socket to package net. If there is no descriptor left for that, the
// connection is closed.
func (s *Socket) reattach() {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.loop
	s.loop = loopSocket{}
	s.polling = false
	if was.closed {
		_ = unix.Close(was.fd)
		return
	}
	file := os.NewFile(uintptr(was.fd), "socket")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(KeepAlive) // FileConn has set Go's default
	}
	s.conn = conn
	s.raw.reopen(conn, was.unsent)
}

// receive reads once. It reports false if nothing has arrived.
func (s *Socket) receive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loop.closed {
		s.raw.readErr = net.ErrClosed
	}
	return s.raw.filled() || s.raw.readOnce(uintptr(s.loop.fd))
}

// sendUnsent sends what the socket has room for. It reports whether that is all.
func (s *Socket) sendUnsent() (all bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest, errno := send(uintptr(s.loop.fd), s.loop.unsent)
	if s.loop.unsent = rest; len(rest) == 0 {
		s.loop.unsent = nil
	}
	if errno != 0 {
		return false, errno
	}
	return len(rest) == 0, nil
}

// setEvents changes the events that the loop waits for.
func (s *loopSocket) setEvents(events uint32) {
	if s.events != events {
		s.events = events
		_ = s.epollCtl(unix.EPOLL_CTL_MOD)
	}
}

// epollCtl adds, modifies or removes the socket in the loop's epoll. Only adding can fail,
// such as at the system's limit (/proc/sys/fs/epoll/max_user_watches).
func (s *loopSocket) epollCtl(operation int) error {
	return unix.EpollCtl(s.loop.epoll, operation, s.fd, &unix.EpollEvent{Events: s.events, Fd: int32(s.fd)})
}

// resume copies from a socket what can be copied without waiting. It reports false if the
// direction has ended.
func (w *watch) resume(i int) bool {
	if !w.sockets[i].loop.readable() {
		return false
	}
	w.paused[i] = w.sockets[1-i].Congested()
	return true
}

// handle acts on events of a socket. It reports false if the relay has ended.
func (w *watch) handle(i int, events uint32) bool {
	s, paused := w.sockets[i], w.paused
	if events&unix.EPOLLOUT != 0 {
		all, err := s.sendUnsent()
		if err != nil || all && !w.resume(1-i) {
			return false
		}
	}
	if events&^unix.EPOLLOUT != 0 {
		if w.paused[i] { // the events are EPOLLHUP or EPOLLERR
			return false
		}
		if s.receive() && !w.resume(i) {
			return false
		}
	}
	if w.paused != paused {
		for i, s := range w.sockets {
			s.loop.setEvents(w.events(i))
		}
	}
	return true
}

// events returns the events to wait for: what can be read, and room for what is unsent.
func (w *watch) events(i int) (events uint32) {
	if !w.paused[i] {
		events |= unix.EPOLLIN
	}
	if w.paused[1-i] {
		events |= unix.EPOLLOUT
	}
	return events
}

func (w *watch) reattach() {
	for _, s := range w.sockets {
		s.reattach()
	}
}

// end returns the sockets to package net, and calls done. No loop may have w any more.
func (w *watch) end() {
	w.reattach()
	w.done()
}
