//go:build linux

package main

import (
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// neighborSpell is the time for which a neighbor spins, and then sleeps.
const neighborSpell = 5 * time.Millisecond

// startNeighbor takes half of the CPU time of each core until stop, with a thread for each.
func startNeighbor() (stop func()) {
	done := make(chan struct{})
	var threads sync.WaitGroup
	for core := range runtime.NumCPU() {
		threads.Go(func() {
			runtime.LockOSThread() // and end the thread, which has an affinity
			var set unix.CPUSet
			set.Set(core)
			_ = unix.SchedSetaffinity(0, &set) // without it, the scheduler spreads them
			for {
				for began := time.Now(); time.Since(began) < neighborSpell; {
				}
				select {
				case <-done:
					return
				case <-time.After(neighborSpell):
				}
			}
		})
	}
	return func() {
		close(done)
		threads.Wait()
	}
}
