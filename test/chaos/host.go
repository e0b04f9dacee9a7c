//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Faults of the host of iamproxy.

// fillDisk leaves no byte free on the disk of the log.
func fillDisk(_ context.Context, p *place) error {
	file, err := os.Create(p.proxy.onDisk("filler"))
	if err != nil {
		return err
	}
	defer file.Close()
	for block := bytes.Repeat([]byte{0}, 64<<10); ; {
		_, err := file.Write(block)
		switch {
		case errors.Is(err, syscall.ENOSPC) && len(block) == 1:
			return nil
		case errors.Is(err, syscall.ENOSPC):
			block = block[:len(block)/2]
		case err != nil:
			return err
		}
	}
}

func emptyDisk(_ context.Context, p *place) error { return os.Remove(p.proxy.onDisk("filler")) }

// fewDescriptors limits iamproxy to the file descriptors that it has.
func fewDescriptors(_ context.Context, p *place) error { return p.proxy.limitDescriptors(0) }

func manyDescriptors(_ context.Context, p *place) error {
	return p.proxy.limitDescriptors(p.proxy.descriptors)
}

// limitDescriptors sets the soft limit.
func (s *process) limitDescriptors(n uint64) error {
	var limit unix.Rlimit
	if err := unix.Prlimit(s.pid(), unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		return err
	}
	if s.descriptors == 0 {
		s.descriptors = limit.Cur
	}
	limit.Cur = n
	return unix.Prlimit(s.pid(), unix.RLIMIT_NOFILE, &limit, nil)
}

func freezeProxy(_ context.Context, p *place) error {
	return p.proxy.cmd.Process.Signal(syscall.SIGSTOP)
}

func thawProxy(_ context.Context, p *place) error {
	return p.proxy.cmd.Process.Signal(syscall.SIGCONT)
}
