package proxy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fleet is many sidecars before one database, all started at once, with the
// proxy's own pacing and persistence, and in no time: only the server and the
// network between are made up.
type fleet struct {
	sidecars, clients int
	rate              float64 // --connect-rate
	timeout           time.Duration
	plain             bool // every refusal is told to the client
	limit             int  // logins that the service lets in a second
	countRefused      bool // for the limit, too
}

// outcome is what became of a fleet's logins.
type outcome struct {
	in       []time.Duration // when each client got in, sorted
	attempts int             // that the service saw
	told     int             // failures that applications saw, and tried again after
}

// service lets in a number of logins in any one second.
type service struct {
	mu       sync.Mutex
	limit    int
	strict   bool
	recent   []time.Time
	attempts int
}

func (s *service) logIn() error {
	time.Sleep(20*time.Millisecond + rand.N(60*time.Millisecond))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts++
	now := time.Now()
	for len(s.recent) > 0 && now.Sub(s.recent[0]) >= time.Second {
		s.recent = s.recent[1:]
	}
	full := len(s.recent) >= s.limit
	if !full || s.strict {
		s.recent = append(s.recent, now)
	}
	if full {
		return said("28000", true)
	}
	return nil
}

func (f fleet) run(t *testing.T) (o outcome) {
	synctest.Test(t, func(t *testing.T) {
		server := &service{limit: f.limit, strict: f.countRefused}
		began := time.Now()
		var mu sync.Mutex
		var all sync.WaitGroup
		for range f.sidecars {
			started := rand.N(time.Second)
			pace, history := &pacer{rate: f.rate}, &history{rate: f.rate}
			for range f.clients {
				all.Go(func() {
					time.Sleep(started + rand.N(100*time.Millisecond))
					for f.logIn(server, pace, history) != nil {
						mu.Lock()
						o.told++
						mu.Unlock()
						if time.Since(began) > 40*time.Second && f.plain {
							return // it may never get in
						}
						time.Sleep(time.Second + rand.N(200*time.Millisecond)) // the application's own patience
					}
					mu.Lock()
					defer mu.Unlock()
					o.in = append(o.in, time.Since(began))
				})
			}
		}
		all.Wait()
		o.attempts = server.attempts
	})
	slices.Sort(o.in)
	return o
}

// logIn is a session's way to one, without a connection.
func (f fleet) logIn(server *service, pace *pacer, history *history) error {
	return f.logInAs("app", pace, history, server.logIn)
}

func (f fleet) logInAs(user string, pace *pacer, history *history, attempt func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), f.timeout)
	defer cancel()
	defer history.begin(user)()
	again := persistence{history: history, pacer: pace, user: user, timeout: f.timeout, began: time.Now()}
	for {
		for _, pace := range again.pacers() {
			if err := pace.wait(ctx, again.began); err != nil {
				return err
			}
		}
		err := attempt()
		if err == nil {
			history.letIn(user)
			return nil
		}
		if f.plain {
			return err
		}
		pause, yes := again.again(err, noOther)
		if !yes || !sleep(ctx, pause) {
			return err
		}
	}
}

// at is how many are in after d.
func (o outcome) at(d time.Duration) int {
	n, _ := slices.BinarySearch(o.in, d)
	return n
}

func (o outcome) String() string {
	var line strings.Builder
	for _, s := range []time.Duration{1, 2, 5, 10, 15, 20, 25, 30, 35, 40} {
		fmt.Fprintf(&line, "%d s: %d, ", s, o.at(s*time.Second))
	}
	return fmt.Sprintf("%slast after %v; %d attempts, %d failures told", &line, o.in[len(o.in)-1].Round(time.Second/10), o.attempts, o.told)
}

// What docs/logins.md shows: go test -run TestFleet -v ./proxy
func TestFleet(t *testing.T) {
	alone := fleet{sidecars: 1, clients: 400, limit: 40, rate: 150, timeout: 30 * time.Second}
	whole := fleet{sidecars: 300, clients: 20, limit: 200, rate: 150, timeout: 30 * time.Second}
	plain := func(f fleet) fleet {
		f.rate, f.plain = 0, true
		return f
	}
	strict := func(f fleet) fleet {
		f.sidecars = 100
		f.countRefused = true
		return f
	}
	for _, test := range []struct {
		name       string
		fleet      fleet
		told, most int // of the failures told, at least and at the most
	}{
		{"one proxy, 400 clients, 40 logins a second", alone, 0, 0},
		{"300 proxies, plain", plain(whole), 10_000, 1_000_000},
		{"300 proxies", whole, 0, 600},
		{"100 proxies, refusals count, plain", plain(strict(whole)), 10_000, 1_000_000},
		{"100 proxies, refusals count", strict(whole), 0, 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := test.fleet.run(t)
			t.Log(o)
			if o.told < test.told || o.told > test.most {
				t.Errorf("%d failures told, want %d to %d", o.told, test.told, test.most)
			}
			if all := test.fleet.sidecars * test.fleet.clients; !test.fleet.plain && o.at(time.Minute) != all {
				t.Errorf("%d of %d clients are in after a minute", o.at(time.Minute), all)
			}
		})
	}
}

// A user who may not log in, in a crowd, holds up nobody else.
func TestBadUserHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fleet{rate: 150, timeout: 30 * time.Second}
		pace, history := &pacer{rate: f.rate}, &history{rate: f.rate}
		stop := time.Now().Add(2 * time.Minute)
		attempts := 0
		var mu sync.Mutex
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				for time.Now().Before(stop) {
					_ = f.logInAs("bad", pace, history, func() error {
						time.Sleep(50 * time.Millisecond)
						mu.Lock()
						defer mu.Unlock()
						attempts++
						return said("28000", true)
					})
					time.Sleep(time.Second)
				}
			})
		}
		for time.Now().Before(stop) {
			begun := time.Now()
			if err := f.logInAs("good", pace, history, func() error { return nil }); err != nil || time.Since(begun) > time.Second {
				t.Errorf("the good user is in after %v, %v", time.Since(begun), err)
			}
			time.Sleep(time.Second)
		}
		all.Wait()
		t.Logf("%d attempts of the bad one", attempts)
	})
}
