package retry

import (
	"math"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/internal/age/agetest"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// A limiter counts a suspension of the machine as time that has passed.
func TestLimiterAfterSuspension(t *testing.T) {
	rate := func(l *limiter) float64 { return math.Round(l.currentRate()) }
	l := &limiter{rate: 100}
	l.throttle()
	agetest.Suspend(&l.throttled, throttleInterval)
	if l.throttle(); rate(l) != 25 {
		t.Errorf("rate %v, want it halved again", rate(l))
	}
	agetest.Suspend(&l.changed, doublingTime)
	if rate(l) != 50 {
		t.Errorf("rate %v, want it doubled", rate(l))
	}
	slow := &limiter{rate: 0.01}
	useUp(slow)
	agetest.Suspend(&slow.next, 100*time.Second)
	if !slow.allow() {
		t.Error("not allowed after the interval")
	}
	if slow.allow() {
		t.Error("allowed twice")
	}
}

// A refusal from before a suspension of the machine does not slow down a login after it.
func TestHistoryAfterSuspension(t *testing.T) {
	refusal := serverError("28000", pgwire.TokenSent)
	newUser := func() (*history, *userState) {
		h := &history{}
		u := h.begin("u")
		for range busyLogins {
			h.begin("u")
		}
		return h, u
	}
	h, u := newUser()
	h.noteRefusal(u, refusal, timeout)
	if agetest.Suspend(&u.lastRefusal, refusalLifetime+time.Second); h.lastRefusal(u) != nil {
		t.Error("the refusal is remembered")
	}
	h.noteLimit(u, refusal)
	if agetest.Suspend(&u.limitReached, refusalLifetime+time.Second); h.lastRefusal(u) != nil {
		t.Error("the limit is remembered")
	}

	h, u = newUser()
	u.running = 1
	if agetest.Suspend(&u.busy, busyTime); h.noteRefusal(u, refusal, timeout) {
		t.Error("throttled for logins of before")
	}

	h, u = newUser()
	h.noteRefusal(u, refusal, timeout)
	agetest.Suspend(&u.refusedSince, time.Hour)
	if h.noteRefusal(u, refusal, timeout) {
		t.Error("a series of an hour counts as throttling")
	}
	agetest.Suspend(&u.lastRefusal, time.Hour)
	if !h.noteRefusal(u, refusal, timeout) {
		t.Error("the first refusal after a suspension continues the series")
	}
}
