package retry

import (
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// environments simulates execution environments of AWS Lambda that start within a second, as in a
// burst, and have one invocation a second each. The service accepts 200 logins a second.
type environments struct {
	number      int
	invocations int  // of each
	reuse       bool // one connection serves the invocations of an environment
	plain       bool // the function signs a token: no limiter, and no retry but at the next invocation
}

func (e environments) run(t *testing.T) (o outcome) {
	synctest.Test(t, func(t *testing.T) {
		server := &service{limit: 200}
		f := fleet{rate: 150, timeout: 10 * time.Second, plain: e.plain}
		if e.plain {
			f.rate = 0
		}
		began := time.Now()
		var mu sync.Mutex
		var all sync.WaitGroup
		for range e.number {
			all.Go(func() {
				time.Sleep(rand.N(time.Second))
				var c Controller // each environment has its own
				c.SetRate(f.rate)
				c.SetFleet(!e.plain)
				connected := false
				for n := range e.invocations {
					if begun := began.Add(time.Duration(n) * time.Second); time.Now().Before(begun) {
						time.Sleep(time.Until(begun) + rand.N(time.Second))
					}
					if connected && e.reuse {
						continue
					}
					err := f.logIn(&c, "app", server.logIn)
					mu.Lock()
					switch {
					case err != nil:
						o.failures++
					case !connected:
						connected = true
						o.in = append(o.in, time.Since(began))
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		o.attempts = server.attempts
	})
	slices.Sort(o.in)
	return o
}

// lambdaFigures matches the rows of the table of docs/lambda.md about the environments.
var lambdaFigures = regexp.MustCompile(`(?m)^\| .* \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$`)

// TestLambda prints the figures of docs/lambda.md, and compares them: go test -run TestLambda -v
// ./proxy/retry
func TestLambda(t *testing.T) {
	page, err := os.ReadFile("../../docs/lambda.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := lambdaFigures.FindAllStringSubmatch(string(page), -1)
	tests := []struct {
		name         string
		environments environments
	}{
		{"token code, connection per invocation", environments{number: 1000, invocations: 30, plain: true}},
		{"token code, static connection", environments{number: 1000, invocations: 30, plain: true, reuse: true}},
		{"iamproxy", environments{number: 1000, invocations: 30, reuse: true}},
	}
	if len(rows) != len(tests) {
		t.Fatalf("docs/lambda.md has %d rows with figures, want %d", len(rows), len(tests))
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := test.environments.run(t)
			connected := o.at(5 * time.Second)
			t.Logf("%d logins, %d failures, %d environments connected after 5 s", o.attempts, o.failures, connected)
			compareFigures(t, rows[i], []int{o.attempts, o.failures, connected}, []int{0, 100, 0})
		})
	}
}

// In a fleet, one refused login may be throttled. It is retried for the time that a user without a
// successful login has.
func TestFleetRetriesRefusedLogin(t *testing.T) {
	f := fleet{timeout: 30 * time.Second}
	for inFleet, want := range map[bool]time.Duration{false: 0, true: 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			var c Controller
			c.SetFleet(inFleet)
			began := time.Now()
			if f.logIn(&c, "app", func() error { return serverError("28000", pgwire.TokenSent) }) == nil {
				t.Fatal("logged in")
			}
			if got := time.Since(began); got < want || got > want+2*time.Second {
				t.Errorf("fleet %v: refused after %v, want %v", inFleet, got, want)
			}
		})
	}
}
