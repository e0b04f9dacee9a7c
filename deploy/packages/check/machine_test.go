//go:build linux

package check

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/container"
)

// repository is the root of the source.
const repository = "../../.."

// patience bounds every wait. It expires only in a test that fails.
const patience = 2 * time.Minute

// debian returns a directory with a clean Debian, which no test may change. It is downloaded once.
func debian(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join(repository, "build", "debian-bookworm"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	partial, err := os.MkdirTemp(filepath.Dir(dir), "debian-*")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(partial)
	if out, err := exec.Command("debootstrap", "--variant=minbase", "--include=systemd-sysv,rpm,openrc", "bookworm", partial).CombinedOutput(); err != nil {
		t.Fatalf("debootstrap: %v: %s", err, out)
	}
	if err := errors.Join(os.Chmod(partial, 0o755), os.Rename(partial, dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// clean returns the path of a file system with the clean Debian, which the test may change. The
// changes are in memory.
func clean(t *testing.T) (root string) {
	t.Helper()
	base, dir := debian(t), t.TempDir()
	mount := func(source, target, kind, options string) {
		t.Helper()
		if err := syscall.Mount(source, target, kind, 0, options); err != nil {
			t.Fatalf("mount %s at %s: %v; it needs root", kind, target, err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(target, syscall.MNT_DETACH) })
	}
	mount("tmpfs", dir, "tmpfs", "")
	for _, sub := range []string{"changes", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root = filepath.Join(dir, "root")
	mount("overlay", root, "overlay", "lowerdir="+base+",upperdir="+filepath.Join(dir, "changes")+",workdir="+filepath.Join(dir, "work"))
	return root
}

// machine is a clean Debian that systemd has started in namespaces.
type machine struct {
	t       *testing.T
	root    string
	network container.Network // loopback only
	systemd int               // the process
}

// boot starts a machine, which is stopped after the test.
func boot(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, root: clean(t), network: container.NewNetwork(t)}
	// In no unit and not registered, since this machine may have no systemd.
	nspawn := exec.Command("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe",
		"--network-namespace-path="+m.network.Path(), "--directory="+m.root)
	var console strings.Builder
	nspawn.Stdout, nspawn.Stderr = &console, &console
	if err := nspawn.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = nspawn.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		// The namespaces end with their first process, and nspawn after it.
		if pid := child(nspawn.Process.Pid); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		} else {
			_ = nspawn.Process.Kill()
		}
		<-exited
	})
	m.until("systemd runs", func() bool {
		select {
		case <-exited:
			t.Fatalf("systemd-nspawn ended: %s", &console)
		default:
		}
		m.systemd = child(nspawn.Process.Pid) // at first another process, which makes the namespaces
		state, _ := m.try("systemctl is-system-running")
		return state == "running" || state == "degraded"
	})
	return m
}

// child returns the first child process of a process, or 0.
func child(pid int) int {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	first, _, _ := strings.Cut(string(children), " ")
	n, _ := strconv.Atoi(first)
	return n
}

// try runs a script as root in the machine, and returns its output.
func (m *machine) try(script string) (string, error) {
	cmd := exec.Command("nsenter", "--target", strconv.Itoa(m.systemd), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd",
		"sh", "-euc", script)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"}
	overdue := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer overdue.Stop()
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// run runs a script, which must succeed.
func (m *machine) run(script string) string {
	m.t.Helper()
	out, err := m.try(script)
	if err != nil {
		log, _ := m.try("journalctl --no-pager --output=cat | tail -n 30")
		m.t.Fatalf("%s: %v: %s\n%s", script, err, out, log)
	}
	return out
}

// until waits for a condition.
func (m *machine) until(what string, true func() bool) {
	m.t.Helper()
	for end := time.Now().Add(patience); !true(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			m.t.Fatalf("waited in vain until %s", what)
		}
	}
}
