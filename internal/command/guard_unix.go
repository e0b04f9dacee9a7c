//go:build unix

package command

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// Guard is a process that cleans up after this one if it is killed.
type Guard struct {
	cmd      *exec.Cmd
	lifeline *os.File // the guard reads until this process closes it, or is killed
}

// guardScript reads the ID of the command, and an empty line when the command has exited, until the
// end of file. systemd sends signals to each process of a unit.
const guardScript = `trap "" HUP INT TERM; while read -r line; do pid=$line; done; [ -z "$pid" ] || kill -KILL "$pid"; [ -z "$1" ] || rm -rf -- "$1"`

// StartGuard starts a guard that kills a command, and removes a directory unless dir is empty. It
// returns nil if there is no shell. The guard has its own session: signals of the terminal do not
// reach it.
func StartGuard(dir string) *Guard {
	read, lifeline, err := os.Pipe()
	if err != nil {
		return nil
	}
	defer read.Close()
	cmd := exec.Command("/bin/sh", "-c", guardScript, "iamproxy-guard", dir) //nolint:gosec // a directory of this process
	cmd.Stdin, cmd.Env, cmd.Dir = read, []string{"PATH=/usr/bin:/bin"}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		lifeline.Close()
		return nil
	}
	return &Guard{cmd, lifeline}
}

// start starts the command, and has the guard kill it. Linux kills the command, too, unless the
// command has changed its user: prctl(2), PR_SET_PDEATHSIG.
func (g *Guard) start(cmd *exec.Cmd) error {
	err := cmd.Start()
	if err == nil && g != nil {
		fmt.Fprintln(g.lifeline, cmd.Process.Pid)
	}
	return err
}

// forget has the guard kill no process: the ID may be in use again.
func (g *Guard) forget() {
	if g != nil {
		fmt.Fprintln(g.lifeline)
	}
}

// Stop ends the guard, and leaves everything as it is.
func (g *Guard) Stop() {
	if g != nil {
		_ = g.cmd.Process.Kill()
		_ = g.cmd.Wait()
		g.lifeline.Close()
	}
}
