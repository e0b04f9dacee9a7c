//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	modelLine     = regexp.MustCompile(`(?m)^model name\s*: (.*)$`)
	memoryLine    = regexp.MustCompile(`(?m)^MemTotal:\s*(\d+) kB$`)
	availableLine = regexp.MustCompile(`(?m)^MemAvailable:\s*(\d+) kB$`)
)

// machine describes the day, the machine and the programs.
func (b *bench) machine(ctx context.Context) (string, error) {
	pgbouncer, err := version(ctx, b.bouncer, "--version")
	if err != nil {
		return "", err
	}
	postgres, err := version(ctx, filepath.Join(b.programs, "postgres"), "--version")
	if err != nil {
		return "", err
	}
	iamproxy, err := version(ctx, b.binary, "version")
	if err != nil {
		return "", err
	}
	var system unix.Utsname
	if err := unix.Uname(&system); err != nil {
		return "", err
	}
	model := first(modelLine, "/proc/cpuinfo")
	memory, _ := strconv.ParseFloat(first(memoryLine, "/proc/meminfo"), 64)
	release := string(system.Release[:bytes.IndexByte(system.Release[:], 0)])
	lines := strings.Split(pgbouncer, "\n")
	_, mode := b.names.forPgbouncer()
	parts := []string{
		fmt.Sprintf("Measured on %s on %s, %d cores, %.0f GiB of memory, Linux %s", time.Now().UTC().Format(time.DateOnly), strings.TrimSpace(model), runtime.NumCPU(), memory/(1<<20), release),
		"PostgreSQL " + strings.TrimPrefix(firstLine(postgres), "postgres (PostgreSQL) "),
		lines[0] + " with " + mode,
		openSSL(lines),
		firstLine(iamproxy),
	}
	return strings.Join(parts, "; ") + ".\n", nil
}

func version(ctx context.Context, program string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", program, args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// openSSL returns the version that PgBouncer reports; PostgreSQL and libpq use the same.
func openSSL(lines []string) string {
	for _, line := range lines {
		if _, found, ok := strings.Cut(line, "tls: "); ok {
			return found
		}
	}
	return "no OpenSSL"
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// first returns the first match of a pattern in a file, or "".
func first(pattern *regexp.Regexp, file string) string {
	text, _ := os.ReadFile(file)
	if found := pattern.FindSubmatch(text); found != nil {
		return string(found[1])
	}
	return "unknown"
}
