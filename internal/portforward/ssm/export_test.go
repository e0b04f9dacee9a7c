package ssm

import "time"

// SetStuck replaces the size of the buffer that clients share, and the time for which a client may
// hold up others because it is full.
func (f *Forward) SetStuck(buffer int, after time.Duration) {
	f.receiveBuffer, f.stuckAfter = buffer, after
}
