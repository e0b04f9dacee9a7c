package proxy

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// descriptor is a socket's, which is not blocking. It is read and written by
// itself, and not through net.Conn, so that a reader can wait without a buffer.
// As these system calls never wait, the scheduler need not hear of them
// (RawSyscall): that alone is a tenth of what a message costs.
type descriptor struct {
	raw syscall.RawConn // nil: there is none

	awaited bool                         // by setAwaited
	fill    func(fd uintptr) (done bool) // readSome, allocated once
	buffer  *[copyBuffer]byte            // nil: nothing is ahead
	ahead   []byte                       // what has arrived, in buffer
	readErr error                        // what has come instead

	writing  sync.Mutex
	flush    func(fd uintptr) (done bool) // writeSome, allocated once
	left     []byte
	writeErr syscall.Errno

	wrote  atomic.Bool // since checkWindow
	unsent bool        // there were bytes left then
}

func (d *descriptor) init(conn net.Conn) {
	if c, ok := conn.(syscall.Conn); ok {
		d.raw, _ = c.SyscallConn()
		d.fill, d.flush = d.readSome, d.writeSome
	}
}

// setAwaited has reads that would have to wait fail with errNotYet: it is await
// that waits. Nobody may be reading.
func (s *socket) setAwaited(yes bool) { s.awaited = yes && s.raw != nil }

// await waits until something has arrived, and only then has a buffer for it.
func (s *socket) await() error {
	if !s.awaited || s.ahead != nil || s.readErr != nil {
		return nil
	}
	return s.raw.Read(s.fill)
}

// poll reads once what has arrived, and does not wait. It reports whether that was
// anything, if only the end. Nobody may be reading.
func (s *socket) poll() (arrived bool, err error) {
	if s.ahead != nil || s.readErr != nil {
		return true, nil
	}
	err = s.raw.Read(func(fd uintptr) (done bool) {
		arrived = s.readSome(fd)
		return true
	})
	return arrived, err
}

// atEnd reports whether the other side has closed its end, and nothing is ahead of that.
func (s *socket) atEnd() bool { return s.ahead == nil && s.readErr == io.EOF } //nolint:errorlint // it is ours

// canPoll reports whether there is a descriptor to poll.
func (s *socket) canPoll() bool { return s.raw != nil }

// readSome reads once, and is done if that was of any use.
func (d *descriptor) readSome(fd uintptr) (done bool) {
	buffer := buffers.Get().(*[copyBuffer]byte)
	n, errno := transfer(syscall.SYS_READ, fd, buffer[:])
	if errno == 0 && n > 0 {
		d.buffer, d.ahead = buffer, buffer[:n]
		return true
	}
	buffers.Put(buffer)
	switch errno {
	case 0:
		d.readErr = io.EOF
	case syscall.EAGAIN:
		return false
	default:
		d.readErr = os.NewSyscallError("read", errno)
	}
	return true
}

func (s *socket) Read(b []byte) (int, error) {
	switch {
	case s.ahead != nil:
		return s.take(b), nil
	case s.readErr != nil:
		return 0, s.readErr
	case s.awaited:
		return 0, errNotYet
	default:
		return s.Conn.Read(b)
	}
}

// take reads what is ahead. The buffer goes back with the last of it.
func (d *descriptor) take(b []byte) int {
	n := copy(b, d.ahead)
	if d.ahead = d.ahead[n:]; len(d.ahead) == 0 {
		buffers.Put(d.buffer)
		d.buffer, d.ahead = nil, nil
	}
	return n
}

func (s *socket) Write(b []byte) (int, error) {
	if s.raw == nil {
		return s.Conn.Write(b)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if !s.wrote.Load() { // which all cores can read at once
		s.wrote.Store(true)
	}
	s.left, s.writeErr = b, 0
	err := s.raw.Write(s.flush)
	written := len(b) - len(s.left)
	s.left = nil
	if err == nil && s.writeErr != 0 {
		err = os.NewSyscallError("write", s.writeErr)
	}
	return written, err
}

// writeSome writes until all is written, or until it would have to wait.
func (d *descriptor) writeSome(fd uintptr) (done bool) {
	for len(d.left) > 0 {
		n, errno := transfer(syscall.SYS_WRITE, fd, d.left)
		switch errno {
		case 0:
			d.left = d.left[n:]
		case syscall.EAGAIN:
			return false
		default:
			d.writeErr = errno
			return true
		}
	}
	return true
}

// transfer is read(2) or write(2). b must not be empty.
func transfer(trap, fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b))) //nolint:gosec // the memory of b, for the time of the call
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}
