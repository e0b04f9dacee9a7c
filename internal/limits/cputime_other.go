//go:build !unix

package limits

import "time"

// cpuTime returns 0: this process always counts as idle on this system.
func cpuTime() time.Duration { return 0 }
