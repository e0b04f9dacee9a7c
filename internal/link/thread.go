//go:build linux

package link

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// thread is one of this process's that is on another host: the sockets that it makes are
// of that host, whoever uses them then.
type thread struct {
	work chan func()
}

// enter sends a thread to the network namespace of a process.
func enter(pid int) (*thread, error) {
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	t := &thread{work: make(chan func())}
	entered := make(chan error)
	go t.run(int(namespace.Fd()), entered)
	if err := <-entered; err != nil {
		return nil, err
	}
	return t, nil
}

// run never lets go of the thread: it ends with the goroutine, and nobody else gets one
// that is elsewhere.
func (t *thread) run(namespace int, entered chan<- error) {
	runtime.LockOSThread()
	err := os.NewSyscallError("setns", unix.Setns(namespace, unix.CLONE_NEWNET))
	entered <- err
	if err != nil {
		return
	}
	for work := range t.work {
		work()
	}
}

// do has the thread do something, and waits for it.
func (t *thread) do(something func() error) (err error) {
	done := make(chan struct{})
	t.work <- func() {
		defer close(done)
		err = something()
	}
	<-done
	return err
}

func (t *thread) end() { close(t.work) }
