//go:build linux

// Package container runs the iamproxy binary as the files of a deployment specify, for
// their tests: as a process, or in a container made from its image, with a network of its
// own. It needs root, but no container engine.
package container

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// limit bounds every wait. It expires only in a test that fails.
const limit = 60 * time.Second

// Build compiles a program of the module in the directory module, and returns its path.
func Build(t testing.TB, module, program string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), filepath.Base(program))
	build := exec.Command("go", "build", "-buildvcs=false", "-o", file, program)
	build.Dir = module
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v: %s", program, err, out)
	}
	return file
}

// Credentials returns an access key of AWS's documentation, which the stand-in accepts, and
// variables that keep the SDK from other sources.
func Credentials() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE",
		"AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
		"AWS_EC2_METADATA_DISABLED=true",
	}
}

// Run runs a command to its end, and returns its output.
func Run(cmd *exec.Cmd) (string, error) {
	end := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	defer end.Stop()
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// Process is a running program.
type Process struct {
	t      testing.TB
	cmd    *exec.Cmd
	exited chan struct{}

	mu    sync.Mutex
	lines []string
}

// Start runs iamproxy until the test is over, and returns once it listens.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	return StartUntil(t, cmd, func(line string) bool {
		var entry struct{ Msg string }
		return json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "listening"
	})
}

// StartUntil runs a program until the test is over, and returns once it has printed a line
// for which up returns true.
func StartUntil(t testing.TB, cmd *exec.Cmd, up func(line string) bool) *Process {
	t.Helper()
	p := &Process{t: t, cmd: cmd, exited: make(chan struct{})}
	output, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = input, input
	err = cmd.Start()
	input.Close()
	if err != nil {
		t.Fatal(err)
	}
	isUp := make(chan struct{})
	go p.follow(output, up, isUp)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.exited
	})
	select {
	case <-isUp:
	case <-p.exited:
		t.Fatalf("the program ended: %s", p.Log())
	case <-time.After(limit):
		t.Fatalf("the program is not up: %s", p.Log())
	}
	return p
}

func (p *Process) follow(output io.ReadCloser, up func(string) bool, isUp chan<- struct{}) {
	defer output.Close()
	for lines := bufio.NewScanner(output); lines.Scan(); {
		p.mu.Lock()
		p.lines = append(p.lines, lines.Text())
		p.mu.Unlock()
		if isUp != nil && up(lines.Text()) {
			close(isUp)
			isUp = nil
		}
	}
	_ = p.cmd.Wait()
	close(p.exited)
}

// PID returns the id of the process in the namespace of the test.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log returns the output so far.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// Stop sends SIGTERM, as container engines do. The process has to exit with 0.
func (p *Process) Stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
	select {
	case <-p.exited:
	case <-time.After(limit):
		p.t.Fatalf("does not end on SIGTERM: %s", p.Log())
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.t.Errorf("%v after SIGTERM: %s", p.cmd.ProcessState, p.Log())
	}
}
