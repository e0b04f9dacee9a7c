//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// resident returns the memory of a process, in KiB, including shared memory such as the C
// library of PgBouncer.
func resident(pid int) (float64, error) {
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	return parseResident(string(rollup))
}

func parseResident(rollup string) (float64, error) {
	for line := range strings.Lines(rollup) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "Rss:" {
			return strconv.ParseFloat(fields[1], 64)
		}
	}
	return 0, fmt.Errorf("no Rss in %q", rollup)
}

// settleEvery is the interval of readings of memory, and settleWithin the difference up to
// which they are equal.
const (
	settleEvery  = 5 * time.Second
	settleWithin = 0.01
)

// settled returns the memory of a process once it is stable, or at the limit, and that of
// the first reading.
func settled(ctx context.Context, pid int, limit time.Duration) (stable, early float64, err error) {
	deadline := time.Now().Add(limit)
	last, err := resident(pid)
	if err != nil {
		return 0, 0, err
	}
	for {
		select {
		case <-time.After(settleEvery):
		case <-ctx.Done():
			return 0, 0, context.Cause(ctx)
		}
		now, err := resident(pid)
		if err != nil {
			return 0, 0, err
		}
		if early == 0 {
			early = now
		}
		if change := now - last; max(change, -change) <= last*settleWithin || time.Now().After(deadline) {
			return now, early, nil
		}
		last = now
	}
}

// ticks is USER_HZ, the number of ticks per second in /proc: 100 on all common systems.
const ticks = 100

// cpu returns the CPU time of a process, in seconds; 0 for no process.
func cpu(pid int) (float64, error) {
	if pid == 0 {
		return 0, nil
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseCPU(string(stat))
}

// parseCPU parses proc_pid_stat(5): utime and stime are fields 14 and 15. The name, in
// parentheses, may have spaces.
func parseCPU(stat string) (float64, error) {
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("no CPU time in %q", stat)
	}
	user, errUser := strconv.ParseFloat(fields[11], 64)
	system, errSystem := strconv.ParseFloat(fields[12], 64)
	if errUser != nil || errSystem != nil {
		return 0, fmt.Errorf("no CPU time in %q", stat)
	}
	return (user + system) / ticks, nil
}

// fineCPU returns the CPU time of the current threads of a process, in seconds, where ticks
// are too coarse.
func fineCPU(pid int) (float64, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	var sum float64
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) { // the thread has ended
			continue
		}
		if err != nil {
			return 0, err
		}
		onCPU, _, _ := strings.Cut(string(text), " ")
		nanoseconds, err := strconv.ParseFloat(onCPU, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		sum += nanoseconds / 1e9
	}
	if sum == 0 {
		return 0, fmt.Errorf("process %d has no schedstat", pid)
	}
	return sum, nil
}
