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
	// checkInterval is how often the use of CPU time is sampled.
	checkInterval = time.Second
	// idleCPU is the CPU time in one interval up to which the process counts as idle. Forty
	// queries take as much, and 5,000 idle sessions a fifth of it.
	idleCPU = 2 * time.Millisecond
	// minAllocated is the allocation since the last release that makes another worthwhile.
	minAllocated = 1 << 20
	// collections is the number of collections before memory is released. One only halves a
	// stack that is too large, and a sync.Pool is empty after two.
	collections = 2
)

// gcPercent makes the collector run earlier than Go's default of 100: only logins make work
// for it. With little memory in use it runs later, such as at the start: there a collection
// costs more time than it returns memory. GOGC takes precedence.
const (
	gcPercent      = 50
	smallGCPercent = 200
	smallHeap      = 4 << 20 // bytes in use
)

// DelayCollection makes the collector run later until ReleaseIdleMemory finds more than
// little memory in use.
func DelayCollection() { setGCPercent(smallGCPercent) }

// gcPercentFor returns the percentage for a number of bytes in use.
func gcPercentFor(inUse uint64) int {
	if inUse <= smallHeap {
		return smallGCPercent
	}
	return gcPercent
}

func setGCPercent(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// ReleaseIdleMemory returns memory that logins have used to the operating system as soon as
// the process is idle, until ctx is done. Without it the collector may not run for minutes,
// since most sessions only wait.
//
// A collection delays the messages of sessions by milliseconds. Therefore a process that
// relays messages is left to Go's collector, which runs at least every 2 minutes.
func ReleaseIdleMemory(ctx context.Context) {
	ticker := time.NewTicker(checkInterval)
	defer ticker.Stop()
	var r release
	before, percent := cpuTime(), smallGCPercent
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		allocated, inUse := heapBytes()
		if fitting := gcPercentFor(inUse); fitting != percent {
			percent = fitting
			setGCPercent(percent)
		}
		if step := r.next(cpuTime()-before, allocated); step != nil {
			step()
		}
		before = cpuTime() // that of step does not count
	}
}

// release is a release of memory in steps, one in each idle interval: collections in a row
// would delay messages for longer. Its zero value has released nothing.
type release struct {
	allocated uint64 // up to the last release
	collected int    // collections since
}

// next returns the step after an interval in which the process used cpu, or nil. allocated is
// the number of bytes allocated since the start of the process.
func (r *release) next(cpu time.Duration, allocated uint64) (step func()) {
	switch {
	case cpu > idleCPU || allocated-r.allocated < minAllocated:
		return nil
	case r.collected < collections:
		r.collected++
		return runtime.GC
	default:
		*r = release{allocated: allocated}
		return debug.FreeOSMemory
	}
}

// heapBytes returns the bytes allocated on the heap since the start of the process, and those
// in use at the last collection.
func heapBytes() (allocated, inUse uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64(), samples[1].Value.Uint64()
}
