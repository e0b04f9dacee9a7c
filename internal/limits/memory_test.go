package limits

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

var sink []byte

// An idle process releases the memory of earlier allocations.
func TestReleaseIdleMemory(t *testing.T) {
	t.Cleanup(func() { debug.SetGCPercent(100) })
	for range 2 * minAllocated / (64 << 10) {
		sink = make([]byte, 64<<10)
	}
	sink = nil
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ReleaseIdleMemory(ctx)
	}()
	for now, deadline := before, time.Now().Add(time.Minute); now.NumForcedGC == before.NumForcedGC; runtime.ReadMemStats(&now) {
		if time.Now().After(deadline) {
			t.Fatal("no memory was released")
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	<-ended
}
