package ssm

import (
	"time"

	"github.com/iamproxy/iamproxy/internal/age/agetest"
)

// Suspend changes the end of the last session as if the machine had been suspended since then.
func (f *Forward) Suspend(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	agetest.Suspend(&f.current.failedAt, d)
}

// SetStuck replaces the size of the buffer that clients share, and the time for which a client may
// hold up others because it is full.
func (f *Forward) SetStuck(buffer int, after time.Duration) {
	f.receiveBuffer, f.stuckAfter = buffer, after
}
