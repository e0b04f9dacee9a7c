package e2e

import (
	"errors"
	"io/fs"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// As PID 1, which receives only signals with a handler.
func TestPID1(t *testing.T) {
	t.Parallel()
	if err := inPIDNamespace(exec.Command("true")).Run(); errors.Is(err, fs.ErrPermission) {
		t.Skip("this account, or root of this container, makes no PID namespaces")
	}
	cluster := startCluster(t, &aurora.Cluster{})
	cmd := inPIDNamespace(exec.Command(binaryPath(t), clusterArgs(cluster)...))
	cmd.Env = keyEnvironment(aurora.DefaultKey)
	p := startCommand(t, cmd, 1)
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		t.Errorf("ended with %d", code)
	}
}

// A restarted port forward leaves no zombie, which PID 1 has to reap.
func TestPID1Forward(t *testing.T) {
	if err := inPIDNamespace(exec.Command("true")).Run(); errors.Is(err, fs.ErrPermission) {
		t.Skip("this account, or root of this container, makes no PID namespaces")
	}
	if _, err := exec.LookPath("ps"); err != nil {
		t.Skip(err)
	}
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	f := startForwarders(t, cluster, "")
	cmd := inPIDNamespace(exec.Command(binaryPath(t), forwardArgs(cluster, `exec:sh -c 'sleep 0.1; exit 1 {port}'`)...))
	cmd.Env = f.env
	p := startCommand(t, cmd, 1)
	until(t, "some ends", func() bool { return strings.Count(p.logs(), "port forward exited") >= 3 })
	until(t, "what is left to be none's but the program's", func() bool {
		out, err := exec.Command("ps", "--ppid", strconv.Itoa(cmd.Process.Pid), "-o", "stat=").Output()
		return (err == nil || len(out) == 0) && !strings.Contains(string(out), "Z")
	})
}

func inPIDNamespace(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	return cmd
}
