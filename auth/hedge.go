package auth

import (
	"context"
	"io"
	"net/http"
	"time"
)

// hedgeDelay is the time without a response after which a request is sent again. An
// agent that assumes a role for its response takes less.
const hedgeDelay = 1200 * time.Millisecond

// httpDoer is the HTTP client interface of the SDK.
type httpDoer interface {
	Do(r *http.Request) (*http.Response, error)
}

// hedged sends a request again while there is no response, and returns the first
// response. An endpoint that hung and recovered may never respond to earlier
// requests. It is for GET requests.
type hedged struct{ next httpDoer }

// result is the result of one request.
type result struct {
	response *http.Response
	err      error
}

// Do returns the first response or error. The SDK retries errors.
func (h hedged) Do(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	results := make(chan result)
	go h.send(ctx, r, results)
	again := time.NewTicker(hedgeDelay)
	defer again.Stop()
	for {
		select {
		case first := <-results:
			if first.err != nil {
				cancel()
				return nil, first.err
			}
			first.response.Body = &cancelingBody{first.response.Body, cancel}
			return first.response, nil
		case <-again.C:
			go h.send(ctx, r, results)
		case <-ctx.Done():
			cancel()
			return nil, ctx.Err()
		}
	}
}

// send sends the request once. A response after the first is discarded.
func (h hedged) send(ctx context.Context, r *http.Request, results chan<- result) {
	response, err := h.next.Do(r.Clone(ctx))
	select {
	case results <- result{response, err}:
	case <-ctx.Done():
		if err == nil {
			response.Body.Close()
		}
	}
}

// cancelingBody cancels the other requests when it is closed.
type cancelingBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *cancelingBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}
