package command

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// Notify sends the events of the console to received.
func Notify(received chan<- os.Signal) { signal.Notify(received, os.Interrupt, syscall.SIGTERM) }

// Signal does nothing: the console has sent the event to the command, too.
func (p *Process) Signal(os.Signal) {}

// passOnWINCH does nothing: Windows has no such signal.
func (p *Process) passOnWINCH() {}

func exitCode(state *os.ProcessState) int { return state.ExitCode() }

// run starts the command and waits until it exits.
func (p *Process) run(started chan<- error) { p.wait(started) }

// Guard is a job with the command.
type Guard struct{ *Job }

// StartGuard creates the job, or returns nil if that fails. Windows has no directory to remove.
func StartGuard(string) *Guard {
	job, err := NewJob()
	if err != nil {
		return nil
	}
	return &Guard{job}
}

// start starts the command in the job. Without a job, a command outlives this process if it is killed.
func (g *Guard) start(cmd *exec.Cmd) error {
	if g == nil {
		return cmd.Start()
	}
	return g.Start(cmd)
}

// forget does nothing: the job has handles, not IDs.
func (g *Guard) forget() {}

// Stop lets the processes run on that the command has left.
func (g *Guard) Stop() {
	if g != nil {
		_ = g.Release()
	}
}
