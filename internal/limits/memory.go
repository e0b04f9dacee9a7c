package limits

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// checkInterval is how often allocation is sampled.
	checkInterval = time.Second
	// idleBytes is the allocation in one interval below which the process counts as idle.
	// Open sessions allocate little: 24 bytes for each read, by crypto/tls.
	idleBytes = 64 << 10
	// minAllocated is the allocation since the last release that makes another worthwhile.
	minAllocated = 1 << 20
	// collections is the number of collections before memory is released. One only halves a
	// stack that is too large, and a sync.Pool is empty after two.
	collections = 2
)

// gcPercent makes the collector run earlier than Go's default of 100: only logins make work
// for it. GOGC takes precedence.
const gcPercent = 50

// ReleaseIdleMemory returns memory that logins have used to the operating system as soon as
// the process is idle, until ctx is done. Without it the collector may not run for minutes,
// since most sessions only wait.
func ReleaseIdleMemory(ctx context.Context) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ticker := time.NewTicker(checkInterval)
	defer ticker.Stop()
	before, released := uint64(0), uint64(0)
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now := allocatedBytes()
		if now-before <= idleBytes && now-released >= minAllocated {
			for range collections {
				runtime.GC()
			}
			debug.FreeOSMemory()
			released = now
		}
		before = now
	}
}

// allocatedBytes returns the bytes allocated on the heap since the start of the process.
func allocatedBytes() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
