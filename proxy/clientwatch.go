package proxy

import (
	"context"
	"errors"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// watchClient returns a context that is done when the client disconnects, with the cause
// errClientDisconnected. When many clients log in, work for those that have disconnected would
// delay the others. Until stop is called, nothing else may read from the client or write to it.
func (s *session) watchClient(ctx context.Context) (watched context.Context, stop func()) {
	deadline, _ := ctx.Deadline()
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go s.waitDisconnect(cancel, done)
	return ctx, func() {
		s.client.SetReadDeadline(netconn.LongAgo)
		<-done
		s.client.SetReadDeadline(deadline)
		cancel(nil)
	}
}

// waitDisconnect reads ahead. A client that waits has nothing to send; one that sends
// something is connected.
func (s *session) waitDisconnect(cancel context.CancelCauseFunc, done chan<- struct{}) {
	defer close(done)
	if err := s.client.ReadAhead(); err != nil && !netconn.IsTimeout(err) {
		cancel(errClientDisconnected)
	}
}

// clientGoneOr returns errClientDisconnected if that is the cause of ctx, else err.
func clientGoneOr(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errClientDisconnected) {
		return errClientDisconnected
	}
	return err
}
