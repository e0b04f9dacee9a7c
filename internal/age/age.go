// Package age measures how long ago something happened, suspensions included.
//
// The monotonic clock stands still while a laptop sleeps or a virtual machine is paused, as AWS
// Lambda does between invocations. The wall clock does not, but it can be set back.
package age

import "time"

// Of returns the time since t, of the clock by which it is longer.
func Of(t time.Time) time.Duration { return At(time.Now(), t) }

// At returns the time from t to now, of the clock by which it is longer. It is negative if t is
// after now by both clocks.
func At(now, t time.Time) time.Duration {
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0))) // Round(0) strips the monotonic clock
}
