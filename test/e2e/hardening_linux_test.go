package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// asUser runs a command as a user other than root, which may be the current one.
func asUser(cmd *exec.Cmd) *exec.Cmd {
	if os.Getuid() == 0 {
		const nobody = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return cmd
}

// read reads a file of a process as that user.
func read(t *testing.T, pid int, name string) (string, error) {
	t.Helper()
	program := []string{"head", "-c1"}
	if name == "fd" {
		program = []string{"ls"}
	}
	cmd := asUser(exec.CommandContext(t.Context(), program[0], append(program[1:], fmt.Sprintf("/proc/%d/%s", pid, name))...))
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// Another process of the same user cannot read iamproxy's memory and environment.
func TestMemoryUnreadable(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	cmd := exec.Command(binaryPath(t), clusterArgs(cluster)...)
	cmd.Env = keyEnvironment(aurora.DefaultKey)
	p := startCommand(t, asUser(cmd), 1)
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	open := asUser(exec.Command("sleep", "infinity"))
	if err := open.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = open.Process.Kill(); _ = open.Wait() })
	for _, name := range []string{"environ", "maps", "fd", "mem"} {
		if out, err := read(t, p.cmd.Process.Pid, name); err == nil || !strings.Contains(out, "Permission denied") {
			t.Errorf("%s: %v: %q", name, err, out)
		}
		if out, _ := read(t, open.Process.Pid, name); strings.Contains(out, "Permission denied") && name != "mem" { // which may be limited to the parent
			t.Errorf("%s of another program: %s", name, out)
		}
	}
}

// It leaves no core file, whatever GOTRACEBACK and the limit.
func TestNoCoreFile(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	inDir := func(args ...string) *exec.Cmd {
		cmd := exec.Command("sh", append([]string{"-c", `ulimit -c unlimited && exec "$0" "$@"`}, args...)...)
		cmd.Dir = t.TempDir()
		cmd.Env = append(keyEnvironment(aurora.DefaultKey), "GOTRACEBACK=crash")
		return cmd
	}
	other := inDir("sh", "-c", "kill -ABRT $$")
	_ = other.Run()
	if !other.ProcessState.Sys().(syscall.WaitStatus).CoreDump() {
		t.Skip("nobody leaves a core file here")
	}
	p := launch(t, inDir(append([]string{binaryPath(t)}, clusterArgs(cluster)...)...))
	p.awaitListening(1)
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	p.signal(syscall.SIGABRT)
	p.wait()
	if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGABRT || status.CoreDump() {
		t.Errorf("ended with %v", p.cmd.ProcessState)
	}
	if files, err := os.ReadDir(p.cmd.Dir); err != nil || len(files) != 0 {
		t.Errorf("it has left %v, %v", files, err)
	}
}
