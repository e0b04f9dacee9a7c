package auth

import (
	"context"
	"io"
	"net/http"
	"time"
)

// hedgeAfter is how long a request may be without an answer until it is made once more.
// An agent that assumes a role for its answer takes less.
const hedgeDelay = 1200 * time.Millisecond

// doer is what the SDK calls an HTTP client.
type httpDoer interface {
	Do(r *http.Request) (*http.Response, error)
}

// hedged asks once more beside a request that has no answer yet, and takes the first one
// that comes: an endpoint that hung, and no longer does, may never answer those who asked
// before. It is for GET.
type hedged struct{ next httpDoer }

// answer is what came of one request.
type answer struct {
	response *http.Response
	err      error
}

// Do ends with the first answer, or with the first error: whoever is told of one asks
// again by other rules.
func (h hedged) Do(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	answers := make(chan answer)
	go h.ask(ctx, r, answers)
	again := time.NewTicker(hedgeDelay)
	defer again.Stop()
	for {
		select {
		case first := <-answers:
			if first.err != nil {
				cancel()
				return nil, first.err
			}
			// The others end with it, of which one may have its answer just now.
			first.response.Body = &lastBody{first.response.Body, cancel}
			return first.response, nil
		case <-again.C:
			go h.ask(ctx, r, answers)
		case <-ctx.Done():
			cancel()
			return nil, ctx.Err()
		}
	}
}

// ask makes the request once. An answer that nobody wants any more is thrown away.
func (h hedged) ask(ctx context.Context, r *http.Request, answers chan<- answer) {
	response, err := h.next.Do(r.Clone(ctx))
	select {
	case answers <- answer{response, err}:
	case <-ctx.Done():
		if err == nil {
			response.Body.Close()
		}
	}
}

// lastBody ends the other requests once it has been read.
type lastBody struct {
	io.ReadCloser
	end context.CancelFunc
}

func (b *lastBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}
