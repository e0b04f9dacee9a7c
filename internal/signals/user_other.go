//go:build !unix

package signals

import "os"

var userSignals []os.Signal
