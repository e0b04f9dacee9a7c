//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The CPU time of a small task: 0.25 vCPU of AWS Fargate, in the kernel's default period.
const (
	quarterQuota  = "25000"
	quarterPeriod = "100000"
)

// cgroup limits the CPU time of processes that start in it.
type cgroup struct {
	dir  string
	home string // the cgroup of this process
}

// newCgroup returns a cgroup with a quarter of a core, of version 1 or 2. It is an error if
// this process may not make one.
func newCgroup() (*cgroup, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	hierarchy, err := findCPU(string(mounts), string(own))
	if err != nil {
		return nil, err
	}
	c := &cgroup{dir: filepath.Join(hierarchy.mount, "iamproxy-bench-"+strconv.Itoa(os.Getpid())), home: filepath.Join(hierarchy.mount, hierarchy.own)}
	if hierarchy.unified {
		if err := os.WriteFile(filepath.Join(hierarchy.mount, "cgroup.subtree_control"), []byte("+cpu"), 0); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		return nil, err
	}
	limits := [][2]string{{"cpu.cfs_period_us", quarterPeriod}, {"cpu.cfs_quota_us", quarterQuota}}
	if hierarchy.unified {
		limits = [][2]string{{"cpu.max", quarterQuota + " " + quarterPeriod}}
	}
	for _, limit := range limits {
		if err := os.WriteFile(filepath.Join(c.dir, limit[0]), []byte(limit[1]), 0); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

// start calls do, which starts processes, from within the cgroup: processes inherit it, and
// find their limit when they start. Without a cgroup it only calls do.
func (c *cgroup) start(do func() error) error {
	if c == nil {
		return do()
	}
	if err := enter(c.dir); err != nil {
		return err
	}
	err := do()
	return errors.Join(err, enter(c.home))
}

func enter(dir string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
}

// close removes it, once its processes have ended.
func (c *cgroup) close() error { return os.Remove(c.dir) }

// hierarchy is a mounted one with the CPU controller.
type hierarchy struct {
	mount   string
	own     string // the cgroup of this process, below mount
	unified bool   // version 2
}

// findCPU parses proc_mounts(5) and cgroups(7). With both versions mounted, version 1 has
// the controller.
func findCPU(mounts, own string) (hierarchy, error) {
	var second hierarchy
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		switch {
		case len(fields) < 4:
		case fields[2] == "cgroup" && slices.Contains(strings.Split(fields[3], ","), "cpu"):
			return hierarchy{mount: fields[1], own: ownCgroup(own, "cpu")}, nil
		case fields[2] == "cgroup2":
			second = hierarchy{mount: fields[1], own: ownCgroup(own, ""), unified: true}
		}
	}
	if second.mount == "" {
		return second, fmt.Errorf("no mounted cgroup has the CPU controller")
	}
	return second, nil
}

// ownCgroup returns the path of this process's cgroup. The controller is empty in version 2.
func ownCgroup(own, controller string) string {
	for line := range strings.Lines(own) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 && slices.Contains(strings.Split(parts[1], ","), controller) {
			return parts[2]
		}
	}
	return "/"
}
