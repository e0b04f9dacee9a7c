// Package ssm forwards connections to a port through AWS Systems Manager Session Manager. All
// connections to a database share one session. No other program and no local port is needed.
package ssm

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/age"
	"github.com/iamproxy/iamproxy/internal/portforward/ssm/channel"
)

// Forward is a port forward through Session Manager. Target, Host, Port, API and Config are
// required. The fields must not be changed after Start.
type Forward struct {
	// Name identifies the forward in the log.
	Name string
	// Target is the node that connects to the database.
	Target Target
	// Host and Port are those of the database, as the target resolves them. A loopback
	// address is the target itself.
	Host, Port string
	// API starts, resumes and ends the session.
	API API
	// Config returns the region, the credentials and the HTTP client for the WebSocket.
	Config func(ctx context.Context) (aws.Config, error)
	// AllowHTTP allows a WebSocket without TLS. It is for an API whose endpoint has no TLS.
	AllowHTTP bool
	// CLIFlags are the flags of the AWS CLI for the region and profile of the target. Hints
	// contain them.
	CLIFlags string
	// PolicyCommand is the command line that prints the policy of the session. Hints contain
	// it.
	PolicyCommand string
	// Log may be nil.
	Log *zap.Logger

	receiveBuffer int           // that of the sessions, for tests
	stuckAfter    time.Duration // likewise

	log    *zap.Logger
	ctx    context.Context // done after Stop
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	current  *session // or the last one, which has ended
	since    time.Time
	sessions uint64        // that were opened
	ended    channel.Stats // the sums of ended sessions
	lastErr  error
	target   string
	agent    string
}

// Start opens the session in the background and returns. It must be called once, before the
// other methods.
func (f *Forward) Start() {
	f.log = zap.NewNop()
	if f.Log != nil {
		f.log = f.Log.With(zap.String("via", f.Name))
	}
	f.ctx, f.cancel = context.WithCancelCause(context.Background())
	f.since = time.Now()
	f.session()
}

// Stop ends the session and all connections. It returns within 2 s.
func (f *Forward) Stop() {
	f.cancel(ErrStopped)
	f.mu.Lock()
	s := f.current
	f.mu.Unlock()
	if s != nil {
		<-s.done
	}
}

// Dial opens a connection to the database, and ignores the address. It waits for the session
// until ctx is done. If there is no session, Dial opens one. The error is a *pgwire.Error unless
// ctx is canceled.
func (f *Forward) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	s, err := f.wait(ctx)
	if err != nil {
		return nil, err
	}
	return s.dial(ctx)
}

// Open waits until the session is open, and returns its status. If there is no session, Open
// opens one.
func (f *Forward) Open(ctx context.Context) (Status, error) {
	_, err := f.wait(ctx)
	return f.Status(), err
}

// wait returns an open session.
func (f *Forward) wait(ctx context.Context) (*session, error) {
	for attempt := 1; ; attempt++ {
		s := f.session()
		opened := s.opened
		for {
			select {
			case <-s.failed:
				if !s.wasOpen || attempt == maxAttempts {
					return nil, f.explain(s.err)
				}
			case <-opened:
				if opened = s.connected(); isClosed(opened) {
					return s, nil
				}
				continue
			case <-ctx.Done():
				return nil, f.waitError(ctx)
			}
			break
		}
	}
}

// maxAttempts limits the sessions that Dial opens.
const maxAttempts = 2

// session returns the current session, or one that is being opened. A failure to open one is
// returned for failureKept, so that many clients do not send many requests.
func (f *Forward) session() *session {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.current; s != nil {
		if s.failedAt.IsZero() || !s.wasOpen && age.Of(s.failedAt) < failureKept {
			return s
		}
	}
	if f.ctx.Err() != nil {
		return stoppedSession()
	}
	f.current = newSession(f)
	f.since = time.Now()
	go f.current.run()
	return f.current
}
