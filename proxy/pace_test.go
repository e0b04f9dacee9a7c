package proxy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// begins has n logins wait, and returns when each began.
func begins(t *testing.T, p *pacer, n int) []time.Duration {
	t.Helper()
	start := time.Now()
	var mu sync.Mutex
	var at []time.Duration
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if err := p.wait(t.Context(), time.Now()); err != nil {
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

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pacer{rate: 100}
		for range 2 { // the second time after a pause
			at := begins(t, p, 210)
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

// Without a limit there is one only for a while after a server refused.
func TestNoPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pacer{}
		unlimited := func() bool {
			for range 10_000 {
				if !p.begin() {
					return false
				}
			}
			return true
		}
		if !unlimited() {
			t.Error("waits without a rate")
		}
		p.slowDown()
		if p.current() != usualRate/2 || unlimited() {
			t.Errorf("rate %v once it was slowed down", p.current())
		}
		if at := begins(t, p, 75); at[74] < 900*time.Millisecond {
			t.Errorf("75 began within %v", at[74])
		}
		time.Sleep(recoverEvery)
		if !unlimited() {
			t.Error("still waits")
		}
	})
}

// Who came first is first, also the second time.
func TestPaceIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pacer{rate: 10}
		for p.begin() {
		}
		now := time.Now()
		var mu sync.Mutex
		var order []int
		var all sync.WaitGroup
		for _, age := range []int{3, 1, 5, 2, 4} {
			all.Go(func() {
				if err := p.wait(t.Context(), now.Add(-time.Duration(age)*time.Second)); err != nil {
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

// Whoever would wait in vain is told at once, and whoever leaves holds up nobody.
func TestPaceWithADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pacer{rate: 10}
		for p.begin() {
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		leave, left := context.WithCancel(ctx)
		var told, in int
		var mu sync.Mutex
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				err := p.wait(ctx, start)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					in++
				case errors.Is(err, errQueueTooLong) && time.Since(start) == 0:
					told++
				default:
					t.Errorf("after %v: %v", time.Since(start), err)
				}
			})
			synctest.Wait()
		}
		all.Wait()
		if in < 9 || in > 11 || in+told != 20 {
			t.Errorf("%d are in, %d were told", in, told)
		}

		for range 50 {
			all.Go(func() {
				if err := p.wait(leave, time.Now()); err == nil {
					t.Error("a turn for one who has left")
				}
			})
		}
		left()
		all.Wait()
		if at := begins(t, p, 1); at[0] > 100*time.Millisecond || len(p.waiting) != 0 {
			t.Errorf("waited %v behind those who have left; %d wait", at[0], len(p.waiting))
		}
	})
}

func TestPaceSlowsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pacer{rate: 100}
		p.slowDown()
		p.slowDown() // of the same second
		if p.current() != 50 {
			t.Errorf("rate %v, want it halved once", p.current())
		}
		for range 20 {
			time.Sleep(slowDownEvery)
			p.slowDown()
		}
		if p.current() != slowest {
			t.Errorf("rate %v, want %v", p.current(), slowest)
		}
		time.Sleep(2 * recoverEvery)
		if p.current() != 4*slowest {
			t.Errorf("rate %v after %v, want %v", p.current(), 2*recoverEvery, 4*slowest)
		}
		for range 1000 {
			p.succeeded()
		}
		if p.current() != p.rate {
			t.Errorf("rate %v once all is well, want %v", p.current(), p.rate)
		}
		p.slowDown()
		if time.Sleep(time.Hour); p.current() != p.rate {
			t.Errorf("rate %v after an hour, want %v", p.current(), p.rate)
		}

		slow := &pacer{rate: 0.2}
		if slow.slowDown(); slow.current() != 0.2 {
			t.Errorf("slowed down to %v", slow.current())
		}
	})
}
