//go:build unix

package aurora

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
)

// janitorScript clears up when the process that started it ends, however it
// ends: the kernel then closes the pipe that is the script's standard input.
// Each line there has the processes to end, the first of them by a fast
// shutdown (SIGINT, PostgreSQL manual, "Shutting Down the Server"), and
// replaces the line before. Waiting for postmaster.pid to go, and not only for
// the process, is for containers where nobody collects an orphan's exit status.
const janitorScript = `
trap '' HUP INT TERM
dir=$1 pids=
while read -r line; do pids=$line; done
set -- $pids
if [ $# -gt 0 ]; then
	kill -CONT "$@"
	kill -INT "$1"
	n=0
	while kill -0 "$1" && { [ $n -lt 10 ] || [ -e "$dir/data/postmaster.pid" ]; }; do
		[ $n -ne 50 ] || kill -QUIT "$1"
		[ $n -lt 100 ] || { kill -KILL "$@"; break; }
		n=$((n + 1))
		sleep 0.1
	done
fi
rm -rf "$dir"
`

// janitor is the process that sees to it that nothing outlives this one.
type janitor struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

// startJanitor has dir removed at the latest when this process ends.
func startJanitor(dir string) (*janitor, error) {
	cmd := exec.Command("/bin/sh", "-c", janitorScript, "sh", dir)
	cmd.Dir = "/"
	// Out of reach of the terminal's signals.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &janitor{cmd, stdin}, nil
}

// guard sets which processes the janitor ends. The first is the one that the
// others belong to; none at all means that there is nothing left to end.
func (j *janitor) guard(pids ...int) error {
	line := strings.Trim(fmt.Sprint(pids), "[]")
	if _, err := io.WriteString(j.stdin, line+"\n"); err != nil {
		return fmt.Errorf("the process that clears up is gone: %w", err)
	}
	return nil
}

// close has the directory removed, and waits for it.
func (j *janitor) close() error {
	_ = j.guard() // the exit status tells the same
	j.stdin.Close()
	return j.cmd.Wait()
}
