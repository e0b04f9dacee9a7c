//go:build !unix

package limits

// OpenFiles returns 0: this system does not limit the number of open files.
func OpenFiles() uint64 { return 0 }
