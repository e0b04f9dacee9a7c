//go:build linux

package netem

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// elsewhere calls a function on a thread in another network namespace. Its sockets and
// devices belong to that host, wherever they are used. The thread ends afterwards, so that
// no other goroutine runs on it.
func elsewhere(namespace *os.File, something func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked, so that the thread ends
		if err = os.NewSyscallError("setns", unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET)); err == nil {
			err = something()
		}
	}()
	<-done
	return err
}
