//go:build unix

package portforward

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// process is a program with its descendants, in its own session. Without a
// controlling terminal it gets no Ctrl-C and cannot prompt.
type process struct {
	cmd *exec.Cmd
	// lifeline is the write end of a pipe that is never written to. The read end is at end
	// of file when this process has exited, even if it was killed.
	lifeline *os.File
	exited   chan struct{} // closed when the program has exited; its descendants may run on
}

// guardScript runs a program beside a guard process, which ends the session when the
// process with the lifeline exits. As long as the guard runs, the session's ID is not
// reused. The guard is not a child of the program, which may wait for all its children,
// and its command line does not have the program's arguments.
const guardScript = `(trap "" TERM; /bin/sh -c 'read -r end <&3; kill -TERM 0; sleep 2; kill -KILL 0' >/dev/null 2>&1 &); exec "$@" 3<&-`

// startProcess starts a program with its standard output and error connected to output.
func startProcess(args, env []string, output *os.File) (*process, error) {
	guards, lifeline, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer guards.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", guardScript, "sh"}, args...)...) //nolint:gosec // the user's own command line
	cmd.Env, cmd.Stdout, cmd.Stderr = env, output, output
	cmd.ExtraFiles = []*os.File{guards} // 3
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		lifeline.Close()
		return nil, err
	}
	p := &process{cmd: cmd, lifeline: lifeline, exited: make(chan struct{})}
	go p.wait()
	return p, nil
}

// terminate sends SIGTERM to the program and its descendants.
func (p *process) terminate() { p.signal(syscall.SIGTERM) }

// kill sends SIGKILL to the program and its descendants, and ends the guard.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	p.lifeline.Close()
	if os.Getpid() == 1 {
		go p.reap()
	}
}

// reap waits for the processes of the session that this process inherits as process 1 of a
// container, such as the guard.
func (p *process) reap() {
	<-p.exited // cmd.Wait must get the program's own status
	for err := error(nil); err == nil || errors.Is(err, syscall.EINTR); {
		_, err = syscall.Wait4(-p.cmd.Process.Pid, nil, 0, nil)
	}
}

func (p *process) signal(signal syscall.Signal) { _ = kill(-p.cmd.Process.Pid, signal) }

// kill is a variable for tests.
var kill = syscall.Kill
