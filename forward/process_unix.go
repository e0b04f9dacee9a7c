//go:build unix

package forward

import (
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
}

// underGuard runs a program beside a guard, which ends the session with the process that
// has the lifeline. The guard also keeps the session's number from being another's.
const underGuard = `(trap "" TERM; read -r end <&3; kill -TERM 0; sleep 2; kill -KILL 0) >/dev/null 2>&1 & exec "$@" 3<&-`

// startProcess starts a program that says all it says to output, and reads nothing.
func startProcess(args []string, output *os.File) (*process, error) {
	guards, lifeline, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer guards.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", underGuard, "sh"}, args...)...) //nolint:gosec // the user's own command line
	cmd.Stdout, cmd.Stderr = output, output
	cmd.ExtraFiles = []*os.File{guards} // 3
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		lifeline.Close()
		return nil, err
	}
	return &process{cmd: cmd, lifeline: lifeline}, nil
}

// wait returns how the program has ended.
func (p *process) wait() string {
	_ = p.cmd.Wait() // says the same
	return p.cmd.ProcessState.String()
}

// terminate asks the program and all that it has started to end.
func (p *process) terminate() { p.signal(syscall.SIGTERM) }

// kill ends what is left of them, and the guard.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	p.lifeline.Close()
}

func (p *process) signal(signal syscall.Signal) { _ = syscall.Kill(-p.cmd.Process.Pid, signal) }
