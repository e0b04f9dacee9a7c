//go:build unix

package command

import (
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// passedOn are the signals that are passed on to the command.
var passedOn = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2}

// Notify sends the signals that are to be passed on to received. Those that the parent ignores stay
// ignored, also by the command, such as SIGHUP under nohup.
func Notify(received chan<- os.Signal) {
	signal.Notify(received, slices.DeleteFunc(slices.Clone(passedOn), signal.Ignored)...)
}

// passOnWINCH passes SIGWINCH on until the command has exited. It ends no process by default, and
// stops Apache's HTTP server: https://httpd.apache.org/docs/2.4/stopping.html.
func (p *Process) passOnWINCH() {
	received := make(chan os.Signal, 1)
	signal.Notify(received, syscall.SIGWINCH)
	defer signal.Stop(received)
	for {
		select {
		case s := <-received:
			p.Signal(s)
		case <-p.exited:
			return
		}
	}
}

// Signal passes a signal on to the command, unless the terminal has sent it to both processes.
func (p *Process) Signal(s os.Signal) {
	if (s == syscall.SIGINT || s == syscall.SIGQUIT || s == syscall.SIGWINCH) && p.sharesTerminal() {
		return
	}
	_ = p.cmd.Process.Signal(s)
}

// sharesTerminal reports whether this process and the command are in the foreground of a terminal.
func (p *Process) sharesTerminal() bool {
	group, err := unix.Getpgid(p.cmd.Process.Pid)
	if err != nil || group != unix.Getpgrp() {
		return false
	}
	terminal, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer terminal.Close()
	foreground, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == group
}

// exitCode returns the exit code of a process that has exited.
func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return CodeOf(status.Signal())
	}
	return state.ExitCode()
}
