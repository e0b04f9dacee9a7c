package limits

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"testing/synctest"
	"time"
)

var sink []byte

// The collector runs later while little memory is in use. GOGC takes precedence.
func TestGCPercent(t *testing.T) {
	const other = 123
	for _, test := range []struct {
		gogc             string
		inUse            int
		started, running uint64
	}{
		{"", 0, smallGCPercent, smallGCPercent},
		{"", smallHeap, smallGCPercent, gcPercent}, // beside what the test itself uses
		{"123", smallHeap, other, other},
	} {
		t.Setenv("GOGC", test.gogc)
		sink = make([]byte, test.inUse)
		runtime.GC()
		synctest.Test(t, func(t *testing.T) {
			before := debug.SetGCPercent(other)
			t.Cleanup(func() { debug.SetGCPercent(before) })
			DelayCollection()
			if got := currentGCPercent(); got != test.started {
				t.Errorf("GOGC=%s: %d percent after the start, want %d", test.gogc, got, test.started)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			go ReleaseIdleMemory(ctx)
			time.Sleep(checkInterval)
			synctest.Wait()
			if got := currentGCPercent(); got != test.running {
				t.Errorf("GOGC=%s: %d percent with %d bytes in use, want %d", test.gogc, got, test.inUse, test.running)
			}
		})
	}
	sink = nil
}

func currentGCPercent() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// An idle process releases the memory of earlier allocations.
func TestReleaseIdleMemory(t *testing.T) {
	t.Cleanup(func() { debug.SetGCPercent(100) })
	for range 2 * minAllocated / (64 << 10) {
		sink = make([]byte, 64<<10)
	}
	sink = nil
	collected := make(chan struct{})
	runtime.AddCleanup(new(*byte), func(c chan struct{}) { close(c) }, collected)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ReleaseIdleMemory(ctx)
	}()
	select { // polling would be work
	case <-collected:
	case <-time.After(time.Minute):
		t.Error("no memory was released")
	}
	stop()
	<-ended
}

// Memory is released in steps, in idle intervals only.
func TestReleaseSteps(t *testing.T) {
	var r release
	for _, interval := range []struct {
		cpu       time.Duration
		allocated uint64
		step      bool
	}{
		{0, minAllocated - 1, false},
		{idleCPU + 1, minAllocated, false},
		{idleCPU, minAllocated, true}, // a collection
		{idleCPU + 1, minAllocated, false},
		{0, minAllocated, true}, // another
		{0, minAllocated, true}, // the release
		{0, minAllocated, false},
		{0, 2*minAllocated - 1, false},
		{0, 2 * minAllocated, true},
	} {
		if step := r.next(interval.cpu, interval.allocated); (step != nil) != interval.step {
			t.Errorf("a step after %v of CPU time and %d bytes: %v", interval.cpu, interval.allocated, step != nil)
		}
	}
}

// Work of this process counts as CPU time.
func TestCPUTime(t *testing.T) {
	for before := cpuTime(); cpuTime() <= before+idleCPU; {
		sink = make([]byte, 1)
	}
}
