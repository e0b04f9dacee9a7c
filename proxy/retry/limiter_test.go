package retry

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// admissions queues n logins and returns when each was admitted, sorted.
func admissions(t *testing.T, l *limiter, n int) []time.Duration {
	t.Helper()
	start := time.Now()
	var mu sync.Mutex
	var at []time.Duration
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if err := l.wait(t.Context(), time.Now()); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(start))
		})
	}
	all.Wait()
	slices.Sort(at)
	return at
}

// useUp takes all logins that may begin at once.
func useUp(l *limiter) {
	for l.allow() {
	}
}

func TestLimiterHoldsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{rate: 100}
		for range 2 { // the second time after a pause
			at := admissions(t, l, 210)
			if at[9] != 0 || at[11] == 0 {
				t.Errorf("the 10th began after %v, the 12th after %v, want a burst of a tenth of the rate", at[9], at[11])
			}
			if last := at[209]; last < 1990*time.Millisecond || last > 2010*time.Millisecond {
				t.Errorf("the last began after %v", last)
			}
			for i := 120; i < 210; i++ {
				if within := at[i] - at[i-100]; within < 990*time.Millisecond {
					t.Fatalf("a hundred began within %v", within)
				}
			}
			time.Sleep(time.Minute)
		}
	})
}

// A limiter without a rate has a limit only for a while after it was throttled.
func TestLimiterWithoutRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{}
		unlimited := func() bool {
			for range 10_000 {
				if !l.allow() {
					return false
				}
			}
			return true
		}
		if !unlimited() {
			t.Error("limited without a rate")
		}
		l.throttle()
		if l.currentRate() != defaultRate/2 || unlimited() {
			t.Errorf("rate %v when throttled", l.currentRate())
		}
		if at := admissions(t, l, 75); at[74] < 900*time.Millisecond {
			t.Errorf("75 began within %v", at[74])
		}
		time.Sleep(doublingTime)
		if !unlimited() {
			t.Error("still limited")
		}
	})
}

func TestLimiterAdmitsEarliestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{rate: 10}
		useUp(l)
		now := time.Now()
		var mu sync.Mutex
		var order []int
		var all sync.WaitGroup
		for _, age := range []int{3, 1, 5, 2, 4} {
			all.Go(func() {
				if err := l.wait(t.Context(), now.Add(-time.Duration(age)*time.Second)); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, age)
			})
			synctest.Wait()
		}
		all.Wait()
		if want := []int{5, 4, 3, 2, 1}; !slices.Equal(order, want) {
			t.Errorf("ages %v, want %v", order, want)
		}
	})
}

// A login that cannot begin before its deadline fails at once.
func TestLimiterQueueFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{rate: 10}
		useUp(l)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		var full, admitted int
		var mu sync.Mutex
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				err := l.wait(ctx, start)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					admitted++
				case errors.Is(err, errQueueFull) && time.Since(start) == 0:
					full++
				default:
					t.Errorf("after %v: %v", time.Since(start), err)
				}
			})
			synctest.Wait()
		}
		all.Wait()
		if admitted < 9 || admitted > 11 || admitted+full != 20 {
			t.Errorf("%d were admitted, the queue was full for %d", admitted, full)
		}
	})
}

// A queued login whose deadline passes fails as if the queue had been full: the rate was
// reduced, or earlier logins were retried.
func TestLimiterDeadlinePasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{rate: 2}
		useUp(l)
		l.throttle()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var all sync.WaitGroup
		start := time.Now()
		all.Go(func() { _ = l.wait(t.Context(), start) })
		synctest.Wait()
		if err := l.wait(ctx, start); !errors.Is(err, errQueueFull) || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		all.Wait()
	})
}

// A login that is given up does not delay the next, and fails with the cause.
func TestLimiterLeavingTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{rate: 10}
		useUp(l)
		cause := errors.New("client disconnected")
		ctx, cancel := context.WithCancelCause(t.Context())
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if err := l.wait(ctx, time.Now()); !errors.Is(err, cause) {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		cancel(cause)
		all.Wait()
		if at := admissions(t, l, 1); at[0] > 100*time.Millisecond || len(l.queue) != 0 {
			t.Errorf("waited %v after the others had left; %d are in the queue", at[0], len(l.queue))
		}
	})
}

func TestLimiterThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{rate: 100}
		l.throttle()
		l.throttle() // in the same second
		if l.currentRate() != 50 {
			t.Errorf("rate %v, want it halved once", l.currentRate())
		}
		for range 20 {
			time.Sleep(throttleInterval)
			l.throttle()
		}
		if l.currentRate() != minRate {
			t.Errorf("rate %v, want %v", l.currentRate(), minRate)
		}
		time.Sleep(2 * doublingTime)
		if l.currentRate() != 4*minRate {
			t.Errorf("rate %v after %v, want %v", l.currentRate(), 2*doublingTime, 4*minRate)
		}
		for range 1000 {
			l.recover()
		}
		if l.currentRate() != l.rate {
			t.Errorf("rate %v after many successes, want %v", l.currentRate(), l.rate)
		}
		l.throttle()
		if time.Sleep(time.Hour); l.currentRate() != l.rate {
			t.Errorf("rate %v after an hour, want %v", l.currentRate(), l.rate)
		}

		slow := &limiter{rate: 0.2}
		if slow.throttle(); slow.currentRate() != 0.2 {
			t.Errorf("a rate below the minimum was throttled to %v", slow.currentRate())
		}
	})
}
