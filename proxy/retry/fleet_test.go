package retry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// fleet simulates many proxies whose clients connect to one database at once. The limiters
// and policies are the real ones; the service and the network are simulated.
type fleet struct {
	clients      []int   // of each proxy
	users        int     // database users that the clients of a proxy log in as in turn; 0: one
	rate         float64 // --connect-rate
	timeout      time.Duration
	running      bool // the proxies have served these users before; otherwise they start
	plain        bool // every refusal is passed on to the client
	limit        int  // logins a second that the service accepts
	countRefused bool // refused logins count for the limit, too
}

// outcome holds the results of a fleet's logins.
type outcome struct {
	in       []time.Duration // when each client was logged in, sorted
	done     []time.Duration // when the last client of each proxy was logged in, sorted
	attempts int             // logins that the service received
	failures int             // that applications received
}

// even returns the same number of clients for each of a number of proxies.
func even(proxies, clients int) []int { return slices.Repeat([]int{clients}, proxies) }

// service accepts a number of logins in any one second.
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
		return serverError("28000", pgwire.TokenSent)
	}
	return nil
}

func (f fleet) run(t *testing.T) (o outcome) {
	synctest.Test(t, func(t *testing.T) {
		server := &service{limit: f.limit, strict: f.countRefused}
		began := time.Now()
		var mu sync.Mutex
		var all sync.WaitGroup
		for _, clients := range f.clients {
			started, within := rand.N(time.Second), 100*time.Millisecond
			var c Controller
			c.SetRate(f.rate)
			if f.running {
				started, within = 0, time.Second
				f.serveBefore(&c)
			}
			var left atomic.Int64
			left.Store(int64(clients))
			for client := range clients {
				user := f.user(client)
				all.Go(func() {
					time.Sleep(started + rand.N(within))
					for f.logIn(&c, user, server.logIn) != nil {
						mu.Lock()
						o.failures++
						mu.Unlock()
						if time.Since(began) > 40*time.Second && f.plain {
							return // it may never succeed
						}
						time.Sleep(time.Second + rand.N(200*time.Millisecond)) // until the application connects again
					}
					mu.Lock()
					defer mu.Unlock()
					o.in = append(o.in, time.Since(began))
					if left.Add(-1) == 0 {
						o.done = append(o.done, time.Since(began))
					}
				})
			}
		}
		all.Wait()
		o.attempts = server.attempts
	})
	slices.Sort(o.in)
	slices.Sort(o.done)
	return o
}

// all returns the number of clients.
func (f fleet) all() (sum int) {
	for _, clients := range f.clients {
		sum += clients
	}
	return sum
}

// user returns the database user of a client of a proxy.
func (f fleet) user(client int) string { return fmt.Sprintf("app%d", client%max(f.users, 1)) }

// serveBefore makes c a controller whose proxy has served each user.
func (f fleet) serveBefore(c *Controller) {
	for i := range max(f.users, 1) {
		policy := c.Begin(f.user(i), f.timeout)
		c.Authenticated(f.user(i))
		policy.Succeeded()
		policy.End()
	}
}

// logIn logs in as package proxy does, with attempt in place of a connection.
func (f fleet) logIn(c *Controller, user string, attempt func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), f.timeout)
	defer cancel()
	policy := c.Begin(user, f.timeout)
	defer policy.End()
	for {
		if err := policy.Wait(ctx); err != nil {
			return err
		}
		err := attempt()
		if err == nil {
			c.Authenticated(user)
			return nil
		}
		if f.plain {
			return err
		}
		pause, again := policy.Next(err, SameToken)
		if !again || Sleep(ctx, pause) != nil {
			return err
		}
	}
}

// at returns the number of clients that were logged in after d.
func (o outcome) at(d time.Duration) int {
	n, _ := slices.BinarySearch(o.in, d)
	return n
}

func (o outcome) String() string {
	var line strings.Builder
	for _, s := range []time.Duration{1, 2, 5, 10, 15, 20, 25, 30, 35, 40} {
		fmt.Fprintf(&line, "%d s: %d, ", s, o.at(s*time.Second))
	}
	return fmt.Sprintf("%slast after %v; %d attempts, %d failures", &line, o.in[len(o.in)-1].Round(time.Second/10), o.attempts, o.failures)
}

// TestFleet prints the figures of docs/logins.md, and compares them: go test -run TestFleet -v
// ./proxy/retry
func TestFleet(t *testing.T) {
	alone := fleet{clients: even(1, 400), limit: 40, rate: 150, timeout: 30 * time.Second}
	whole := fleet{clients: even(300, 20), limit: 200, rate: 150, timeout: 30 * time.Second}
	plain := func(f fleet) fleet {
		f.rate, f.plain = 0, true
		return f
	}
	strict := func(f fleet) fleet {
		f.clients = even(100, 20)
		f.countRefused = true
		return f
	}
	outcomes := make(map[string]outcome)
	tests := []struct {
		name        string
		fleet       fleet
		least, most int // failures
	}{
		{"one proxy, 400 clients, 40 logins a second", alone, 0, 0},
		{"300 proxies, plain", plain(whole), 10_000, 1_000_000},
		{"300 proxies", whole, 0, 600},
		{"100 proxies, refusals count, plain", plain(strict(whole)), 10_000, 1_000_000},
		{"100 proxies, refusals count", strict(whole), 0, 100},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := test.fleet.run(t)
			t.Log(o)
			outcomes[test.name] = o
			if o.failures < test.least || o.failures > test.most {
				t.Errorf("%d failures, want %d to %d", o.failures, test.least, test.most)
			}
			if all := test.fleet.all(); !test.fleet.plain && o.at(time.Minute) != all {
				t.Errorf("%d of %d clients are logged in after a minute", o.at(time.Minute), all)
			}
		})
	}
	t.Run("page", func(t *testing.T) {
		if len(outcomes) != len(tests) {
			t.Skip("it needs all fleets")
		}
		comparePage(t, outcomes["300 proxies, plain"], outcomes["300 proxies"],
			outcomes["100 proxies, refusals count, plain"], outcomes["100 proxies, refusals count"])
	})
}

// figures matches a row of the tables of docs/logins.md about the fleets.
var figures = regexp.MustCompile(`(?m)^\| (all 6,000 clients|errors that|logins that|clients connected).* \| ([\d,]+)(?: s)? \| ([\d,]+)(?: s| \(all\))? \|$`)

// comparePage compares the figures of docs/logins.md with the outcomes of two fleets, each without
// and with iamproxy. The figures are rounded, and chance decides about a part of each.
func comparePage(t *testing.T, plain, whole, plainStrict, strict outcome) {
	t.Helper()
	page, err := os.ReadFile("../../docs/logins.md")
	if err != nil {
		t.Fatal(err)
	}
	last := func(o outcome) int { return int(o.in[len(o.in)-1].Seconds()) }
	want := [][2]int{
		{last(plain), last(whole)}, {plain.failures, whole.failures}, {plain.attempts, whole.attempts},
		{plainStrict.at(10 * time.Second), strict.at(10 * time.Second)}, {plainStrict.at(25 * time.Second), strict.at(25 * time.Second)},
		{plainStrict.failures, strict.failures},
	}
	rows := figures.FindAllStringSubmatch(string(page), -1)
	if len(rows) != len(want) {
		t.Fatalf("docs/logins.md has %d rows with figures, want %d", len(rows), len(want))
	}
	for i, row := range rows {
		slack := []int{0, 0}
		if row[1] == "errors that" {
			slack = []int{100, 100}
		}
		compareFigures(t, append(row[:1:1], row[2:]...), want[i][:], slack)
	}
}

// compareFigures compares the figures of a row of a page, after the row itself, with those that
// were measured. A figure may differ by a fifth, or by slack if that is more.
func compareFigures(t *testing.T, row []string, measured, slack []int) {
	t.Helper()
	for column, figure := range row[1:] {
		shown, err := strconv.Atoi(strings.ReplaceAll(figure, ",", ""))
		want := measured[column]
		if err != nil || max(shown-want, want-shown) > max(want/5, slack[column]) {
			t.Errorf("%s: %d, measured %d", row[0], shown, want)
		}
	}
}

// Many logins of a user that the server refuses do not delay the logins of another user.
func TestUsersAreThrottledIndependently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fleet{rate: 150, timeout: 30 * time.Second}
		var c Controller
		c.SetRate(f.rate)
		stop := time.Now().Add(2 * time.Minute)
		attempts := 0
		var mu sync.Mutex
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				for time.Now().Before(stop) {
					_ = f.logIn(&c, "bad", func() error {
						time.Sleep(50 * time.Millisecond)
						mu.Lock()
						defer mu.Unlock()
						attempts++
						return serverError("28000", pgwire.TokenSent)
					})
					time.Sleep(time.Second)
				}
			})
		}
		for time.Now().Before(stop) {
			begun := time.Now()
			if err := f.logIn(&c, "good", func() error { return nil }); err != nil || time.Since(begun) > time.Second {
				t.Errorf("the good user was logged in after %v, %v", time.Since(begun), err)
			}
			time.Sleep(time.Second)
		}
		all.Wait()
		t.Logf("%d attempts of the bad user", attempts)
	})
}
