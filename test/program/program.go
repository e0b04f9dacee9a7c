//go:build unix

// Package program runs the programs that test a driver or a framework.
package program

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Run runs a program in a directory, and returns its output. At the limit, it ends the program and
// its children.
func Run(ctx context.Context, limit time.Duration, dir string, env, command []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Env = dir, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if ctx.Err() != nil {
		err = fmt.Errorf("not done after %v", limit)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(string(stdout)+stderr.String()))
	}
	return stdout, nil
}

// Choose returns the items with the names. Without names, it returns all items.
func Choose[T any](items []T, nameOf func(T) string, names []string) ([]T, error) {
	if len(names) == 0 {
		return items, nil
	}
	var known []string
	for _, item := range items {
		known = append(known, nameOf(item))
	}
	var chosen []T
	for _, name := range names {
		i := slices.Index(known, name)
		if i < 0 {
			return nil, fmt.Errorf("no %q among %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, items[i])
	}
	return chosen, nil
}
