package auth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// agent is a container credentials endpoint that does not respond to the first
// requests.
type agent struct {
	hangs          int64 // requests without a response
	received, done atomic.Int64
	fails          error
}

func (a *agent) Do(r *http.Request) (*http.Response, error) {
	n := a.received.Add(1)
	defer a.done.Add(1)
	if n <= a.hangs {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if a.fails != nil {
		return nil, a.fails
	}
	time.Sleep(100 * time.Millisecond)
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("keys"))}, nil
}

// TestHedged verifies that an endpoint that has hung and recovered is found by the
// next request, and that no request outlives Do and the response's body.
func TestHedged(t *testing.T) {
	for name, test := range map[string]*struct {
		agent    agent
		requests int64
		took     time.Duration
		fails    bool
	}{
		"responds at once":        {agent{}, 1, 100 * time.Millisecond, false},
		"hangs once":              {agent{hangs: 1}, 2, hedgeDelay + 100*time.Millisecond, false},
		"hangs for longer":        {agent{hangs: 5}, 6, 5*hedgeDelay + 100*time.Millisecond, false},
		"fails":                   {agent{fails: errors.New("refused")}, 1, 0, true},
		"hangs, then fails":       {agent{hangs: 1, fails: errors.New("refused")}, 2, hedgeDelay, true},
		"hangs until the timeout": {agent{hangs: 100}, 9, requestTimeout, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), requestTimeout)
				defer cancel()
				request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://169.254.170.2/", nil)
				if err != nil {
					t.Fatal(err)
				}
				response, err := hedged{&test.agent}.Do(request)
				if (err != nil) != test.fails {
					t.Fatal(err)
				}
				if err == nil {
					if body, err := io.ReadAll(response.Body); err != nil || string(body) != "keys" {
						t.Errorf("got %q, %v", body, err)
					}
					response.Body.Close()
				}
				if took := time.Since(begun); took != test.took {
					t.Errorf("took %v, want %v", took, test.took)
				}
				synctest.Wait()
				if received, done := test.agent.received.Load(), test.agent.done.Load(); received != test.requests || done != received {
					t.Errorf("%d requests, want %d; %d have ended", received, test.requests, done)
				}
			})
		})
	}
}
