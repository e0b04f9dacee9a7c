package ssm

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A step of a request that hangs ends its context; a slow response does not.
func TestStepTimeout(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-hang
			return
		}
		w.(http.Flusher).Flush()
		if r.URL.Path == "/slow" {
			time.Sleep(answerTimeout + 200*time.Millisecond)
		}
	}))
	defer server.Close()
	defer close(hang)
	noNetwork := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		<-hang // package http ends no dial
		return nil, errors.New("no network")
	}}
	used := &http.Transport{}
	defer used.CloseIdleConnections()
	get := func(transport *http.Transport, path string) error {
		ctx, stop := withStepTimeout(t.Context(), stepTimeout)
		defer stop()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := transport.RoundTrip(request)
		if err == nil {
			_, err = io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
		if err != nil && context.Cause(ctx) != errStep { //nolint:errorlint // it is not wrapped
			t.Errorf("%s: %v", path, err)
		}
		return err
	}
	if err := get(used, "/slow"); err != nil {
		t.Errorf("slow response: %v", err)
	}
	if err := get(used, "/hang"); !errors.Is(err, errStep) && !errors.Is(err, context.Canceled) {
		t.Errorf("connection that was used before: %v", err)
	}
	if err := get(noNetwork, "/"); !errors.Is(err, errStep) && !errors.Is(err, context.Canceled) {
		t.Errorf("no network: %v", err)
	}
}

// The dial of a WebSocket ends with the attempt.
func TestDialEnds(t *testing.T) {
	dialed := make(chan struct{})
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		close(dialed)
		<-ctx.Done()
		return nil, ctx.Err()
	}}}
	ctx, cancel := context.WithCancel(t.Context())
	transport := newTransport(ctx, client)
	ended := make(chan error)
	go func() {
		_, err := transport.DialContext(context.WithoutCancel(ctx), "tcp", "")
		ended <- err
	}()
	<-dialed
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
