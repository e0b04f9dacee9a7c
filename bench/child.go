//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// child is the process of ours that runs a program.
func child(program string) (pid int, err error) {
	program, err = filepath.Abs(program)
	if err != nil {
		return 0, err
	}
	if program, err = filepath.EvalSymlinks(program); err != nil {
		return 0, err
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, stat := range stats {
		dir := filepath.Dir(stat)
		exe, _ := os.Readlink(filepath.Join(dir, "exe")) // not ours to read, or gone
		if exe == program && parentOf(stat) == os.Getpid() {
			return strconv.Atoi(filepath.Base(dir))
		}
	}
	return 0, fmt.Errorf("no process of ours runs %s", program)
}

// parentOf reads proc_pid_stat(5): field 4, behind a name that may have spaces.
func parentOf(stat string) int {
	text, err := os.ReadFile(stat)
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}
