// Package command runs one command with the streams and the terminal of this process, passes signals
// on to it, and ends it if this process is killed.
package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
)

// Exit codes of a command that cannot be started, as in shells.
// https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_08_02
const (
	NotExecutable = 126
	NotFound      = 127
)

// Find returns the path of a command. Otherwise code is NotFound or NotExecutable.
func Find(name string) (path string, code int, err error) {
	path, err = exec.LookPath(name)
	switch cause := errors.Unwrap(err); {
	case err == nil || errors.Is(err, exec.ErrDot): // found in the working directory, which $PATH names
		return path, 0, nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return "", NotFound, fmt.Errorf("could not start %q: %w", name, cause)
	default: // such as a directory
		return "", NotExecutable, fmt.Errorf("could not start %q: %w", name, cause)
	}
}

// CodeOf returns the exit code of a process that a signal has ended, as in shells.
func CodeOf(s os.Signal) int {
	number, _ := s.(syscall.Signal)
	return 128 + int(number)
}

// Command describes a command. Path and Args are required.
type Command struct {
	Path string
	Args []string // the first is the name
	Env  []string
	// Guard kills the command if this process is killed. May be nil.
	Guard *Guard
}

// Process is a running command.
type Process struct {
	cmd    *exec.Cmd
	guard  *Guard
	exited chan struct{} // closed after code is set
	code   int
}

// Start starts the command. It shares the standard streams, the process group and the terminal with
// this process.
func (c *Command) Start() (*Process, error) {
	cmd := &exec.Cmd{Path: c.Path, Args: c.Args, Env: c.Env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	p := &Process{cmd: cmd, guard: c.Guard, exited: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("could not start %q: %w", c.Args[0], errors.Unwrap(err))
	}
	go p.passOnWINCH()
	return p, nil
}

// Exited is closed when the command has exited. The processes that it has left may run on.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// ExitCode returns the exit code of a command that has exited: its own, or 128 and the number of the
// signal that has ended it, as in shells.
func (p *Process) ExitCode() int { return p.code }

// wait starts the command, and waits until it has exited.
func (p *Process) wait(started chan<- error) {
	err := p.guard.start(p.cmd)
	if started <- err; err != nil {
		return
	}
	_ = p.cmd.Wait() // ProcessState has the result
	p.guard.forget()
	p.code = exitCode(p.cmd.ProcessState)
	close(p.exited)
}
