//go:build unix

package main

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

// listenUnix makes a unix socket with exactly this mode, and its directory if only
// that is missing. The socket of a process that has died is replaced; that of a
// live one is an error. Whoever closes the listener removes the socket, if it is
// still that one.
func listenUnix(ctx context.Context, path string, mode os.FileMode) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // who may connect is for the socket to say
		return nil, err
	}
	// Of two that start at once and find the same dead socket, the second must not
	// remove what the first has made in its place.
	release, err := lock(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := removeDead(ctx, path); err != nil {
		return nil, err
	}
	// By the umask, so that nobody gets in before a chmod. It is the process's: at
	// this time nothing else in it makes files.
	defer unix.Umask(unix.Umask(0o777 &^ int(mode.Perm())))
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	made, err := os.Lstat(path)
	if err != nil {
		listener.Close()
		return nil, err
	}
	return &socketListener{Listener: listener, path: path, made: made}, nil
}

// socketListener removes its socket when it is closed, and not one that somebody
// else has made since at the same place.
type socketListener struct {
	net.Listener
	path string
	made fs.FileInfo
	once sync.Once
}

func (l *socketListener) Close() error {
	l.once.Do(func() {
		if there, err := os.Lstat(l.path); err == nil && os.SameFile(there, l.made) {
			os.Remove(l.path)
		}
	})
	return l.Listener.Close()
}

const (
	// lockTimeout is how long another process may have the directory, which a
	// start takes for a moment.
	lockTimeout = 10 * time.Second
	lockEvery   = 10 * time.Millisecond
)

// lock has a directory for one process at a time. It leaves no file behind.
func lock(ctx context.Context, dir string) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(lockEvery)
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
			return nil, fmt.Errorf("another process has kept %s locked: %w; end it, or choose another directory", dir, ctx.Err())
		}
	}
}

var errLive = errors.New("another process listens there; end it, or choose another directory or port")

// removeDead removes the socket of a process that has died.
func removeDead(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("what is there is not a socket; remove it, or choose another directory")
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

// listens is the error of a socket that nobody can connect to.
func listens(socket *os.File) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var yes int
	var failed error
	if err := raw.Control(func(fd uintptr) {
		yes, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	}); err != nil {
		return err
	}
	if failed == nil && yes == 0 {
		failed = errors.New("nobody can connect to it; pass a socket that listens (ListenStream=, Accept=no)")
	}
	return failed
}
