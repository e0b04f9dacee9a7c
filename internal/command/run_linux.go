package command

import (
	"runtime"
	"syscall"
)

// run starts the command and waits until it exits.
func (p *Process) run(started chan<- error) {
	// The kernel sends Pdeathsig when the thread ends that has started the command: prctl(2).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.wait(started)
}
