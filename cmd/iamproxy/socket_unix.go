//go:build unix

package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// listenUnix makes a unix socket with exactly this mode, and its directory if only
// that is missing. The socket of a process that has died is replaced; that of a
// live one is an error. Whoever closes the listener removes the socket.
func listenUnix(ctx context.Context, path string, mode os.FileMode) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // who may connect is for the socket to say
		return nil, err
	}
	// Of two that start at once and find the same dead socket, the second must not
	// remove what the first has made in its place.
	release, err := lock(dir)
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
	return config.Listen(ctx, "unix", path)
}

// lock has a directory for one process at a time. It leaves no file behind.
func lock(dir string) (release func(), err error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = unix.EINTR
	for errors.Is(err, unix.EINTR) { // by a signal
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		file.Close()
		return nil, &fs.PathError{Op: "lock", Path: dir, Err: err}
	}
	return func() { file.Close() }, nil
}

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
