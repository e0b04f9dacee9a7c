//go:build unix

package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// listenUnix creates a unix socket with the given mode. It creates the directory if its
// parent exists. The socket of a process that has died is replaced; that of a running process
// is an error. Closing the listener removes the socket file.
func listenUnix(ctx context.Context, path string, mode os.FileMode) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // the mode of the socket controls access
		return nil, err
	}
	// If two processes start at once and find the same dead socket, the second must not remove
	// the new socket of the first.
	release, err := lockDir(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := removeDead(ctx, path); err != nil {
		return nil, err
	}
	// The umask sets the mode, so that there is no time before a chmod. It applies to the whole
	// process, which creates no other files at this time.
	defer unix.Umask(unix.Umask(0o777 &^ int(mode.Perm())))
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	created, err := os.Lstat(path)
	if err != nil {
		listener.Close()
		return nil, err
	}
	return &socketListener{Listener: listener, path: path, created: created}, nil
}

// socketListener removes its socket file when it is closed, unless another process has
// replaced it.
type socketListener struct {
	net.Listener
	path    string
	created fs.FileInfo
	once    sync.Once
}

func (l *socketListener) Close() error {
	l.once.Do(func() {
		if current, err := os.Lstat(l.path); err == nil && os.SameFile(current, l.created) {
			os.Remove(l.path)
		}
	})
	return l.Listener.Close()
}

const (
	// lockTimeout bounds the wait for the lock of a directory, which a starting process holds
	// for a moment.
	lockTimeout  = 10 * time.Second
	lockInterval = 10 * time.Millisecond
)

// lockDir locks a directory against other processes that call lockDir. It creates no file.
func lockDir(ctx context.Context, dir string) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(lockInterval)
	defer ticker.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { file.Close() }, nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			file.Close()
			return nil, &fs.PathError{Op: "lock", Path: dir, Err: err}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("another process holds the lock of %s: %w; stop it, or choose another directory", dir, ctx.Err())
		}
	}
}

var errLive = errors.New("another process listens there; stop it, or choose another directory or port")

// removeDead removes the socket of a process that has died. It returns an error if the file is
// something else, or the process is running.
func removeDead(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("the existing file is not a socket; remove it, or choose another directory")
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
		return errLive
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, unix.EAGAIN): // its backlog is full
		return errLive
	default:
		return err
	}
}

// checkListening returns an error if a socket does not accept connections.
func checkListening(socket *os.File) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var listening int
	var failed error
	if err := raw.Control(func(fd uintptr) {
		listening, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	}); err != nil {
		return err
	}
	if failed == nil && listening == 0 {
		failed = errors.New("it does not listen; pass a listening socket (ListenStream=, Accept=no)")
	}
	return failed
}
