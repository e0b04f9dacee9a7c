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
	parts := []string{
		fmt.Sprintf("Measured on %s on %s, %d cores, %.0f GiB of memory, Linux %s", time.Now().UTC().Format(time.DateOnly), strings.TrimSpace(model), runtime.NumCPU(), memory/(1<<20), release),
		"PostgreSQL " + strings.TrimPrefix(firstLine(postgres), "postgres (PostgreSQL) "),
	}
	if b.bouncer != "" {
		pgbouncer, err := version(ctx, b.bouncer, "--version")
		if err != nil {
			return "", err
		}
		_, mode := b.names.forPgbouncer()
		parts = append(parts, fmt.Sprintf("%s with %s and %s", firstLine(pgbouncer), mode, openSSL(pgbouncer)))
	}
	return strings.Join(append(parts, firstLine(iamproxy)), "; ") + ".\n", nil
}

func version(ctx context.Context, program string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", program, args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

var tlsLine = regexp.MustCompile(`(?m)^tls: (.*)$`)

// openSSL returns the version that PgBouncer reports.
func openSSL(report string) string {
	if found := tlsLine.FindStringSubmatch(report); found != nil {
		return found[1]
	}
	return "no TLS"
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
