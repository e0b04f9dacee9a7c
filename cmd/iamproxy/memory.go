package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// tidyEvery is how often is looked whether it is quiet.
	tidyEvery = time.Second
	// quiet is what is allocated meanwhile at the most if nobody logs in: of sessions
	// that are under way, crypto/tls allocates 24 bytes for each read.
	quiet = 64 << 10
	// worthIt is what must have been allocated since the last time.
	worthIt = 1 << 20
	// collections are needed before: one only halves a stack that is too large, and a
	// sync.Pool is empty after two.
	collections = 2
)

// gcPercent has the collector come earlier than Go's own 100 would, since only
// logins make work for it. GOGC, if it is set, has the last word.
const gcPercent = 50

// tidy gives back to the system what logins have left behind, as soon as it is
// quiet: most of the time a sidecar's sessions only wait, and the collector would
// not run for minutes.
func tidy(ctx context.Context) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	before, tidied := uint64(0), uint64(0)
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now := allocated()
		if now-before <= quiet && now-tidied >= worthIt {
			for range collections {
				runtime.GC()
			}
			debug.FreeOSMemory()
			tidied = now
		}
		before = now
	}
}

// allocated is how many bytes ever were.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
