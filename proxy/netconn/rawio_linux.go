package netconn

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// rawIO reads and writes a descriptor in nonblocking mode with its own system calls,
// not through package net. A reader can then wait without a buffer. The calls never
// wait, so the scheduler is not notified of them (RawSyscall): that saves a tenth of
// the cost of a message.
//
// The zero value is disabled; then the socket uses its net.Conn.
type rawIO struct {
	conn syscall.RawConn // nil: disabled

	fill    func(fd uintptr) (done bool) // readOnce, allocated once
	buffer  *Buffer                      // nil: nothing was read
	data    []byte                       // was read, in buffer
	readErr error                        // was read instead

	writing  sync.Mutex
	flush    func(fd uintptr) (done bool) // writeAll, allocated once
	left     []byte                       // to be written
	writeErr syscall.Errno
	unsent   []byte // by a loop; to be written first
}

// init enables r if conn has a descriptor.
func (r *rawIO) init(conn net.Conn) {
	if c, ok := conn.(syscall.Conn); ok {
		r.conn, _ = c.SyscallConn()
		r.fill, r.flush = r.readOnce, r.writeAll
	}
}

// reopen continues with another net.Conn of the same socket. Writes send unsent first.
func (r *rawIO) reopen(conn net.Conn, unsent []byte) {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.init(conn)
	r.unsent = unsent
}

func (r *rawIO) enabled() bool { return r.conn != nil }

// wait waits until there is something to read, and reads it into a buffer from the
// pool.
func (r *rawIO) wait() error {
	if r.filled() {
		return nil
	}
	return r.conn.Read(r.fill)
}

// poll reads what has arrived without waiting. It reports whether anything has, be it
// only the end. It must not be called during a read.
func (r *rawIO) poll() (arrived bool, err error) {
	if r.filled() {
		return true, nil
	}
	err = r.conn.Read(func(fd uintptr) (done bool) {
		arrived = r.readOnce(fd)
		return true
	})
	return arrived, err
}

// filled reports whether take has something to return.
func (r *rawIO) filled() bool { return r.data != nil || r.readErr != nil }

// atEOF reports whether the peer has closed its end and everything before was taken.
func (r *rawIO) atEOF() bool { return r.data == nil && r.readErr == io.EOF } //nolint:errorlint // set by readOnce

// take returns what was read. The buffer returns to the pool with the last of it.
func (r *rawIO) take(b []byte) (int, error) {
	if r.data == nil {
		return 0, r.readErr
	}
	n := copy(b, r.data)
	if r.data = r.data[n:]; len(r.data) == 0 {
		PutBuffer(r.buffer)
		r.buffer, r.data = nil, nil
	}
	return n, nil
}

// readOnce reads once. It reports false if that would have to wait.
func (r *rawIO) readOnce(fd uintptr) (done bool) {
	buffer := GetBuffer()
	n, errno := transfer(syscall.SYS_READ, fd, buffer[:])
	if errno == 0 && n > 0 {
		r.buffer, r.data = buffer, buffer[:n]
		return true
	}
	PutBuffer(buffer)
	switch errno {
	case 0:
		r.readErr = io.EOF
	case syscall.EAGAIN:
		return false
	default:
		r.readErr = os.NewSyscallError("read", errno)
	}
	return true
}

func (r *rawIO) write(b []byte) (int, error) {
	r.writing.Lock()
	defer r.writing.Unlock()
	if len(r.unsent) > 0 {
		n, err := r.writeLocked(r.unsent)
		if r.unsent = r.unsent[n:]; err != nil {
			return 0, err
		}
	}
	if len(b) == 0 {
		return 0, nil
	}
	return r.writeLocked(b)
}

func (r *rawIO) writeLocked(b []byte) (int, error) {
	r.left, r.writeErr = b, 0
	err := r.conn.Write(r.flush)
	written := len(b) - len(r.left)
	r.left = nil
	if err == nil && r.writeErr != 0 {
		err = os.NewSyscallError("write", r.writeErr)
	}
	return written, err
}

// writeAll writes what is left. It reports false if that would have to wait.
func (r *rawIO) writeAll(fd uintptr) (done bool) {
	r.left, r.writeErr = send(fd, r.left)
	return len(r.left) == 0 || r.writeErr != 0
}

// send writes what there is room for, and returns the rest.
func send(fd uintptr, b []byte) (rest []byte, errno syscall.Errno) {
	for len(b) > 0 {
		n, errno := transfer(syscall.SYS_WRITE, fd, b)
		switch errno {
		case 0:
			b = b[n:]
		case syscall.EAGAIN:
			return b, 0
		default:
			return b, errno
		}
	}
	return nil, 0
}

// transfer is read(2) or write(2). b must not be empty.
func transfer(trap, fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b))) //nolint:gosec // the memory of b, during the call
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}
