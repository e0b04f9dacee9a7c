//go:build linux

package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Container is a program in the file system of an image, without capabilities.
type Container struct {
	Root     string            // directory with the file system
	Writable bool              // it may write there
	Mounts   map[string]string // files and directories of this machine, by their paths in the container
	User     string            // user[:group], numbers or names
	Dir      string
	Env      []string
	Args     []string
}

// containerWord is the argument that makes the test's binary the first process of a
// container.
const containerWord = "run-as-container"

// Main is called by TestMain in tests that start containers.
func Main(m *testing.M) int {
	if len(os.Args) == 3 && os.Args[1] == containerWord {
		fmt.Fprintln(os.Stderr, "container:", enter(os.Args[2]))
		return 125 // as docker run does
	}
	return m.Run()
}

// Command returns the command of the container in the network. Its process becomes the
// container's first.
func (c Container) Command(t testing.TB, n Network) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := n.Command(os.Environ(), self, containerWord, string(spec))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC}
	return cmd
}

// enter becomes the container's program. It returns only if that fails.
func enter(spec string) error {
	runtime.LockOSThread() // some of what follows is per thread, and exec keeps the state of the calling thread
	var c Container
	if err := json.Unmarshal([]byte(spec), &c); err != nil {
		return err
	}
	uid, gid, err := c.ids()
	if err != nil {
		return err
	}
	if err := c.mount(); err != nil {
		return err
	}
	if err := errors.Join(syscall.Chroot(c.Root), os.Chdir(c.Dir)); err != nil {
		return err
	}
	if err := errors.Join(dropBounds(), syscall.Setgroups(nil), syscall.Setgid(gid), syscall.Setuid(uid), noNewPrivileges()); err != nil {
		return err
	}
	program := c.Args[0]
	if !filepath.IsAbs(program) {
		if program, err = look(program, c.Env); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: %w", program, syscall.Exec(program, c.Args, c.Env))
}

// look finds a program in the PATH of env.
func look(program string, env []string) (string, error) {
	for _, variable := range env {
		if path, ok := strings.CutPrefix(variable, "PATH="); ok {
			os.Setenv("PATH", path)
		}
	}
	return exec.LookPath(program)
}

// mount mounts the file systems in a private mount namespace.
func (c Container) mount() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	binds := map[string]string{"/dev": "/dev"}
	for to, from := range c.Mounts {
		binds[to] = from
	}
	if err := syscall.Mount(c.Root, c.Root, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("%s: %w", c.Root, err)
	}
	for _, to := range slices.Sorted(maps.Keys(binds)) { // a directory before what is in it
		from, point := binds[to], filepath.Join(c.Root, to)
		if err := makePoint(point, from); err != nil {
			return err
		}
		if err := syscall.Mount(from, point, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
			return fmt.Errorf("%s on %s: %w", from, to, err)
		}
	}
	if err := syscall.Mount("proc", filepath.Join(c.Root, "proc"), "proc", 0, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	if c.Writable {
		return nil
	}
	return syscall.Mount("", c.Root, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, "")
}

// makePoint makes a mount point for from, if the image has none.
func makePoint(point, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.MkdirAll(point, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(point), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(point, os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}

// ids returns the numbers of User.
func (c Container) ids() (uid, gid int, err error) {
	user, group, ok := strings.Cut(c.User, ":")
	passwd, err := os.ReadFile(filepath.Join(c.Root, "etc/passwd"))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(passwd)) {
		if fields := strings.Split(line, ":"); len(fields) > 3 && fields[0] == user {
			user = fields[2]
			if !ok {
				group = fields[3]
			}
		}
	}
	uid, errUID := strconv.Atoi(user)
	gid, errGID := strconv.Atoi(group)
	return uid, gid, errors.Join(errUID, errGID)
}

// Constants of prctl(2).
const (
	prCapbsetDrop   = 24
	prSetNoNewPrivs = 38
	lastCapability  = 63
)

// dropBounds does what `drop: ALL` does: no program of the container can gain a capability.
func dropBounds() error {
	for capability := range uintptr(lastCapability + 1) {
		_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prCapbsetDrop, capability, 0)
		if errno == syscall.EINVAL {
			return nil // the kernel has no more capabilities
		}
		if errno != 0 {
			return fmt.Errorf("capability %d: %w", capability, errno)
		}
	}
	return nil
}

func noNewPrivileges() error {
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("no new privileges: %w", errno)
	}
	return nil
}
