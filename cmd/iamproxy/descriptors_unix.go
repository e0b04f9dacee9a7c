//go:build unix

package main

import "golang.org/x/sys/unix"

// maxDescriptors is how many this process may have; 0 if that is not known. Go has raised
// the soft limit to the hard one by now.
func maxDescriptors() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return limit.Cur
}
