package command

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// reapDelay is the time in which this process waits for children that it has started itself.
const reapDelay = time.Second

// ReapOrphans waits for the processes that the kernel passes to this one as process 1 of a container,
// until ctx is done. An orphan is a child that has exited, and that nothing has waited for within
// reapDelay.
func ReapOrphans(ctx context.Context) {
	if os.Getpid() != 1 {
		return
	}
	exited := make(chan os.Signal, 1)
	signal.Notify(exited, syscall.SIGCHLD)
	defer signal.Stop(exited)
	for {
		select {
		case <-exited:
		case <-ctx.Done():
			return
		}
		for before := zombies(); len(before) > 0; {
			select {
			case <-time.After(reapDelay):
			case <-ctx.Done():
				return
			}
			after := zombies()
			for pid := range after {
				if before[pid] {
					_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
					delete(after, pid)
				}
			}
			before = after
		}
	}
}

// zombies returns the children that have exited.
func zombies() map[int]bool {
	found := make(map[int]bool)
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	self := strconv.Itoa(os.Getpid())
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		// The name is in parentheses, and may contain some: proc_pid_stat(5).
		fields := strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
		if len(fields) > 1 && fields[0] == "Z" && fields[1] == self {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				found[pid] = true
			}
		}
	}
	return found
}
