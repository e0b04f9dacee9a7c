// Package agetest simulates a suspension of the machine, for the tests of packages that use age.
package agetest

import (
	"time"
	"unsafe"
)

// Suspend changes a time as if the machine had been suspended for d since then: d is rounded
// down to seconds. The wall clock has advanced by d, and the monotonic clock has not. It panics
// if t has no monotonic clock, as in a bubble of synctest.
func Suspend(t *time.Time, d time.Duration) {
	d = d.Truncate(time.Second)
	before := *t
	wall := (*uint64)(unsafe.Pointer(t)) //nolint:gosec // the only way: Add changes both clocks
	*wall -= uint64(d/time.Second) << 30
	if before.Sub(*t) != 0 || before.Round(0).Sub(t.Round(0)) != d {
		panic("agetest: no monotonic clock, or another layout of time.Time")
	}
}
