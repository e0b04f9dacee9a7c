package proxy

import (
	"context"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// whileClientWaits returns a context that is done when the client leaves, with
// the cause errClientLeft, so that nothing more is done for it: those who gave up
// during a storm of logins would only hold up the others. It is for times when
// nothing is read from the client or written to it; stop ends them.
func (s *session) whileClientWaits(ctx context.Context) (waiting context.Context, stop func()) {
	deadline, _ := ctx.Deadline()
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go s.watchClient(cancel, watched)
	return ctx, func() {
		s.client.SetReadDeadline(netconn.LongAgo)
		<-watched
		s.client.SetReadDeadline(deadline)
		cancel(nil)
	}
}

// watchClient reads one byte ahead. A client that waits has nothing to say, but
// may send it all the same: then it is still there.
func (s *session) watchClient(left context.CancelCauseFunc, done chan<- struct{}) {
	defer close(done)
	if err := s.client.ReadAhead(); err != nil && !netconn.IsTimeout(err) {
		left(errClientLeft)
	}
}
