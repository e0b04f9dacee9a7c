//go:build linux

package netem

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// elsewhere has a thread in a network namespace do something: the sockets and devices that
// it makes are of that host, whoever uses them then. The thread ends with that, so that
// nobody else gets one that is elsewhere.
func elsewhere(namespace *os.File, something func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never let go
		if err = os.NewSyscallError("setns", unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET)); err == nil {
			err = something()
		}
	}()
	<-done
	return err
}
