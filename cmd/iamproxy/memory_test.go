package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

var sink []byte

// As soon as it is quiet, what was left behind goes back to the system; then there is
// nothing to do any more.
func TestTidy(t *testing.T) {
	t.Cleanup(func() { debug.SetGCPercent(100) })
	for range 2 * worthIt / (64 << 10) {
		sink = make([]byte, 64<<10)
	}
	sink = nil
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tidy(ctx)
	}()
	for now, deadline := before, time.Now().Add(time.Minute); now.NumForcedGC == before.NumForcedGC; runtime.ReadMemStats(&now) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was given back")
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	<-ended
}
