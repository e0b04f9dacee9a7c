package main

import (
	"errors"
	"io/fs"
	"os/exec"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/internal/standin"
)

// As PID 1, to which the kernel delivers no signal that has no handler.
func TestPID1(t *testing.T) {
	if err := inPIDNamespace(exec.Command("true")).Run(); errors.Is(err, fs.ErrPermission) {
		t.Skip("this account, or root of this container, makes no PID namespaces")
	}
	cluster := startCluster(t, &standin.Cluster{})
	cmd := inPIDNamespace(exec.Command(binaryPath(t), clusterArgs(cluster)...))
	cmd.Env = keyEnvironment(standin.DefaultKey)
	p := startCommand(t, cmd, 1)
	p.mustPSQL(standin.IAMUser, standin.Database, "select 1")
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		t.Errorf("ended with %d", code)
	}
}

func inPIDNamespace(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	return cmd
}
