//go:build unix

package portforward

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// process is a program with all that it starts: a session of its own, so that Ctrl-C on
// the terminal does not reach it, and it cannot ask there for anything.
type process struct {
	cmd *exec.Cmd
	// lifeline is a pipe into which nothing is ever written. When this process is gone, in
	// whatever way, its other end says so.
	lifeline *os.File
	gone     chan struct{} // closed when the program is gone, though not all that it has started may be
}

// underGuard runs a program beside a guard, which ends the session with the process that
// has the lifeline. The guard also keeps the session's number from being another's. It is
// no child of the program, which may wait for all of those, and has none of its arguments.
const underGuard = `(trap "" TERM; /bin/sh -c 'read -r end <&3; kill -TERM 0; sleep 2; kill -KILL 0' >/dev/null 2>&1 &); exec "$@" 3<&-`

// startProcess starts a program that says all it says to output, and reads nothing.
func startProcess(args, env []string, output *os.File) (*process, error) {
	guards, lifeline, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer guards.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", underGuard, "sh"}, args...)...) //nolint:gosec // the user's own command line
	cmd.Env, cmd.Stdout, cmd.Stderr = env, output, output
	cmd.ExtraFiles = []*os.File{guards} // 3
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		lifeline.Close()
		return nil, err
	}
	p := &process{cmd: cmd, lifeline: lifeline, gone: make(chan struct{})}
	go p.wait()
	return p, nil
}

// terminate asks the program and all that it has started to end.
func (p *process) terminate() { p.signal(syscall.SIGTERM) }

// kill ends what is left of them, and the guard.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	p.lifeline.Close()
	if os.Getpid() == 1 {
		go p.reap()
	}
}

// reap waits for what was left to process 1 of a container, as the guard is.
func (p *process) reap() {
	<-p.gone // its own end is not to be taken away
	for err := error(nil); err == nil || errors.Is(err, syscall.EINTR); {
		_, err = syscall.Wait4(-p.cmd.Process.Pid, nil, 0, nil)
	}
}

func (p *process) signal(signal syscall.Signal) { _ = kill(-p.cmd.Process.Pid, signal) }

// kill is the system's, unless a test may not send signals.
var kill = syscall.Kill
