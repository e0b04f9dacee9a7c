//go:build unix

package auth

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestProcessIsGivenUp verifies that a process that does not answer is killed with its
// descendants, and that the error has the reason for that.
func TestProcessIsGivenUp(t *testing.T) {
	emptyEnvironment(t)
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	set(t, &processTimeout, 50*time.Millisecond)
	t.Setenv("AWS_CONFIG_FILE", file(t, dir, "config", "[profile p]\ncredential_process = (cat "+fifo+"; echo) | cat\n"))
	failed := mustFail(t, "p")
	if failed.Code != ReasonProcessFailed || !strings.Contains(failed.Message, `credential_process of profile "p" failed: it has not answered for 0.05 s`) || failed.Temporary() {
		t.Errorf("%s: %v", failed.Code, failed)
	}
}

// TestProcessIsShared verifies that two identities with the same process never run it
// side by side.
func TestProcessIsShared(t *testing.T) {
	emptyEnvironment(t)
	dir := t.TempDir()
	fifo, lock, beside := filepath.Join(dir, "fifo"), filepath.Join(dir, "lock"), filepath.Join(dir, "beside")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", file(t, dir, "config",
		"[profile p]\ncredential_process = mkdir "+lock+" || touch "+beside+"; cat "+fifo+"; rmdir "+lock+"\n"))
	ready := make(chan error)
	for range 2 {
		identity := load(t, "p")
		go func() { ready <- identity.Ready(context.Background()) }()
	}
	for left := 2; left > 0; {
		// Without a reader, the file cannot be opened.
		if writer, err := os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			fmt.Fprint(writer, `{"Version": 1, "AccessKeyId": "AKIAX", "SecretAccessKey": "s"}`)
			writer.Close()
			for _, err := os.Stat(lock); err == nil; _, err = os.Stat(lock) {
				time.Sleep(time.Millisecond) // until the process has read it and exits
			}
		}
		select {
		case err := <-ready:
			left--
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Millisecond):
		}
	}
	if _, err := os.Stat(beside); err == nil {
		t.Error("two processes side by side")
	}
}

// TestProcessCommand verifies that the words of a command may be in quotes, as AWS
// documents, and that a command in quotes as a whole works as with the SDK.
func TestProcessCommand(t *testing.T) {
	emptyEnvironment(t)
	dir := filepath.Join(t.TempDir(), "a b")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	script := file(t, dir, "keys", "#!/bin/sh\n[ \"$1\" = \"$2\" ] && echo '{\"Version\": 1, \"AccessKeyId\": \"AKIAX\", \"SecretAccessKey\": \"s\"}'\n")
	if err := os.Chmod(script, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, command := range map[string]string{
		"path in quotes":            `"` + script + `"`,
		"path in single quotes":     `'` + script + `' x 'x'`,
		"first and last in quotes":  `"` + script + `" "x ; y" "x ; y"`,
		"number sign in quotes":     `"` + script + `" "x # y" "x # y"`,
		"comment":                   `"` + script + `" x x # y`,
		"whole command in quotes":   `"sh '` + script + `' x x"`,
		"nothing in quotes":         `sh ` + strings.ReplaceAll(script, " ", `\ `) + ` x x`,
		"whole, with another quote": `'sh "` + script + `" x x'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_CONFIG_FILE", file(t, t.TempDir(), "config", "[profile p]\ncredential_process = "+command+"\n"))
			if err := load(t, "p").Ready(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// set sets a variable for the time of the test.
func set[T any](t *testing.T, variable *T, value T) {
	t.Helper()
	before := *variable
	*variable = value
	t.Cleanup(func() { *variable = before })
}
