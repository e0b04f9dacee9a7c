//go:build unix

package signals

import (
	"os"
	"syscall"
)

var userSignals = []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2}
