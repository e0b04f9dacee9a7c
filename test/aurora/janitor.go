//go:build unix

package aurora

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
)

// janitorScript cleans up when the process that started it ends, in whatever way: the
// kernel then closes the pipe that is the script's standard input. Each line on it has the
// processes to end and replaces the line before. The first process is ended by a fast
// shutdown (SIGINT, PostgreSQL manual, "Shutting Down the Server"). The script waits until
// postmaster.pid is gone, and not only the process: in some containers no process reaps
// orphans.
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

// janitor is a process that ends the server and removes its files after this process has
// ended.
type janitor struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

// startJanitor makes the janitor remove dir, at the latest when this process ends.
func startJanitor(dir string) (*janitor, error) {
	cmd := exec.Command("/bin/sh", "-c", janitorScript, "sh", dir)
	cmd.Dir = "/"
	// The signals of the terminal must not reach it.
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

// guard sets the processes that the janitor ends. The others are children of the first.
// Without processes the janitor ends none.
func (j *janitor) guard(pids ...int) error {
	line := strings.Trim(fmt.Sprint(pids), "[]")
	if _, err := io.WriteString(j.stdin, line+"\n"); err != nil {
		return fmt.Errorf("the process that clears up is gone: %w", err)
	}
	return nil
}

// close makes the janitor remove the directory, and waits for it.
func (j *janitor) close() error {
	_ = j.guard() // the exit status has the same error
	j.stdin.Close()
	return j.cmd.Wait()
}
