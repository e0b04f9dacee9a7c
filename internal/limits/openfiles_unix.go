//go:build unix

package limits

import "golang.org/x/sys/unix"

// OpenFiles returns the maximum number of file descriptors of this process, or 0 if it is
// unknown. The Go runtime has raised the soft limit to the hard limit.
func OpenFiles() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return uint64(limit.Cur) //nolint:unconvert // FreeBSD has a signed number
}
