//go:build unix

package aurora

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// freezeLimit bounds how long Freeze waits for processes to stop.
const freezeLimit = 5 * time.Second

// status holds the state of a process and its parent.
type status struct {
	pid, parent int
	state       byte // as ps shows it
}

func (s status) zombie() bool  { return s.state == 'Z' || s.state == 'X' }
func (s status) stopped() bool { return s.state == 'T' || s.state == 't' }

// Freeze stops the server and all its processes (SIGSTOP), as if the machine hung: the
// kernel accepts connections, but does not answer. It returns when all of them have
// stopped.
func (c *Cluster) Freeze() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.server.alive() {
		return errors.New("aurora: freeze: the server does not run")
	}
	c.frozen = true
	deadline := time.Now().Add(freezeLimit)
	for {
		// The postmaster stops first, but may be forking: repeat until all of its children
		// are stopped.
		family, err := family(c.server.pid())
		if err != nil {
			return fmt.Errorf("aurora: freeze: %w", err)
		}
		// A janitor that does not know a stopped process could not end it.
		if err := c.janitor.guard(pids(family)...); err != nil {
			return fmt.Errorf("aurora: freeze: %w", err)
		}
		if !slices.ContainsFunc(family, func(s status) bool { return !s.stopped() && !s.zombie() }) {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("aurora: freeze: a process does not stop")
		}
		signalAll(family, syscall.SIGSTOP)
		time.Sleep(time.Millisecond)
	}
}

// Thaw continues a frozen server. It does nothing if the server is not frozen.
func (c *Cluster) Thaw() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.frozen {
		return nil
	}
	c.frozen = false
	if !c.server.alive() {
		return nil
	}
	family, err := family(c.server.pid())
	if err != nil {
		return fmt.Errorf("aurora: thaw: %w", err)
	}
	slices.Reverse(family) // children first, so that none of them is restarted
	signalAll(family, syscall.SIGCONT)
	return c.janitor.guard(c.server.pid())
}

// family returns a process and its children, itself first. The children of a postmaster
// have none.
func family(pid int) ([]status, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	members := slices.DeleteFunc(all, func(s status) bool { return s.pid != pid && s.parent != pid })
	slices.SortFunc(members, func(a, b status) int {
		switch {
		case a.pid == pid:
			return -1
		case b.pid == pid:
			return 1
		default:
			return a.pid - b.pid
		}
	})
	return members, nil
}

func pids(family []status) []int {
	pids := make([]int, len(family))
	for i, s := range family {
		pids[i] = s.pid
	}
	return pids
}

func signalAll(family []status, signal syscall.Signal) {
	for _, s := range family {
		_ = syscall.Kill(s.pid, signal) // it may have ended by itself
	}
}
