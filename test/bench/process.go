//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// memory is the memory of a process, in KiB.
type memory struct {
	resident float64 // with pages that it shares, such as those of the program's file
	private  float64 // of this process alone
}

// memoryOf returns the memory of a process.
func memoryOf(pid int) (memory, error) {
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return memory{}, err
	}
	return parseMemory(string(rollup))
}

func parseMemory(rollup string) (memory, error) {
	sizes := make(map[string]float64)
	for line := range strings.Lines(rollup) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		size, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			return memory{}, fmt.Errorf("smaps_rollup: %q", line)
		}
		sizes[fields[0]] = size
	}
	if sizes["Rss:"] == 0 {
		return memory{}, fmt.Errorf("no Rss in %q", rollup)
	}
	return memory{resident: sizes["Rss:"], private: sizes["Private_Clean:"] + sizes["Private_Dirty:"]}, nil
}

// settleEvery is the interval of readings of memory, and settleWithin the difference up to
// which they are equal.
const (
	settleEvery  = 5 * time.Second
	settleWithin = 0.01
)

// settled returns the memory of a process once it is stable, or at the limit, and that of
// the first reading.
func settled(ctx context.Context, pid int, limit time.Duration) (stable, early memory, err error) {
	deadline := time.Now().Add(limit)
	last, err := memoryOf(pid)
	if err != nil {
		return memory{}, memory{}, err
	}
	for {
		if err := pause(ctx, settleEvery); err != nil {
			return memory{}, memory{}, err
		}
		now, err := memoryOf(pid)
		if err != nil {
			return memory{}, memory{}, err
		}
		if early == (memory{}) {
			early = now
		}
		change := now.resident - last.resident
		if max(change, -change) <= last.resident*settleWithin || time.Now().After(deadline) {
			return now, early, nil
		}
		last = now
	}
}

// pause waits, or returns an error if ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// cpu returns the CPU time of all threads of a process, in seconds; 0 for no process. The
// clock is that of clock_getcpuclockid(3).
func cpu(pid int) (float64, error) {
	if pid == 0 {
		return 0, nil
	}
	const schedulerClock = 2
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|schedulerClock), &used); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return float64(used.Nano()) / 1e9, nil
}

// ended returns the CPU time of a command that has ended, in seconds.
func ended(cmd *exec.Cmd) float64 {
	return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
}
