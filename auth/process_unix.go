//go:build unix

package auth

import (
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/term"
)

// killGroup has cmd start its own process group and, when its context is done, kills the
// group. On a terminal cmd stays in the group of iamproxy, as it could not prompt
// otherwise; there, Ctrl-C ends both.
func killGroup(cmd *exec.Cmd) {
	if term.IsTerminal(int(os.Stdin.Fd())) {
		return
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
