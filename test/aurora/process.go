//go:build unix

package aurora

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// gateScript keeps a program from starting before the janitor knows of it. If this process
// dies first, read fails and the program does not start.
const gateScript = `read -r _ && exec "$@" </dev/null`

// process is a program that the janitor ends after this process has ended.
type process struct {
	cmd     *exec.Cmd
	janitor *janitor
	done    chan struct{} // closed once the program has ended
	err     error         // the result, to be read after done
}

// spawn starts a program as the server's account, in its own session, with its output
// in the log.
func (c *Cluster) spawn(command ...string) (*process, error) {
	c.mu.Lock()
	dir, owner, janitor := c.dir, c.owner, c.janitor
	c.mu.Unlock()

	log, err := os.OpenFile(filepath.Join(dir, logFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()

	cmd := exec.Command("/bin/sh", append([]string{"-c", gateScript, "sh"}, command...)...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: owner.credential()}
	// The caller's PG* variables, /etc/ldap/ldap.conf and a user's .ldaprc (LDAPNOINIT,
	// ldap.conf(5)) must have no effect.
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C.UTF-8", "TZ=UTC", "LDAPNOINIT=1",
	}
	gate, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, janitor: janitor, done: make(chan struct{})}
	err = janitor.guard(p.pid())
	if err == nil {
		_, err = io.WriteString(gate, "\n")
	}
	gate.Close() // without a line, the program does not start
	go p.wait()
	if err != nil {
		<-p.done
		return nil, err
	}
	return p, nil
}

// run spawns a program that ends by itself, and waits for it.
func (c *Cluster) run(ctx context.Context, command ...string) error {
	name := filepath.Base(command[0])
	p, err := c.spawn(command...)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w; log: %s", name, p.err, c.logTail(0))
	}
	return nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// wait collects the exit status. The janitor has to forget the process before its id is
// used again.
func (p *process) wait() {
	p.err = p.cmd.Wait()
	_ = p.janitor.guard() // a dead janitor ends nothing either
	close(p.done)
}

// alive reports whether the program is running. A nil process is not.
func (p *process) alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill kills the program. The children of a postmaster end by themselves.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails if it is dead already
	<-p.done
}
