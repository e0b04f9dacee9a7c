package proxy

import (
	"cmp"
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/retry"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

// connectWithRetry attempts to log in until an attempt succeeds, or another one cannot
// succeed or would come too late. The error is the most specific one of all attempts.
func (s *session) connectWithRetry(ctx context.Context, startup pgwire.StartupMessage) (*upstream.Conn, *upstream.LoginResult, error) {
	policy := s.proxy.retry.Begin(s.user, s.proxy.connectTimeout())
	defer policy.End()
	for {
		if err := s.queue(ctx, policy); err != nil {
			return nil, nil, s.loginError(err)
		}
		s.timings.Attempts++
		server, result, token, err := s.attempt(ctx, startup)
		if err == nil {
			policy.Succeeded()
			s.lastError = nil
			return server, result, nil
		}
		failed := s.loginError(err)
		if errors.Is(err, errClientDisconnected) {
			return nil, nil, failed
		}
		pause, again := policy.Next(err, retry.Replace(ctx, s.proxy.Tokens, s.user, token, err))
		if !again || ctx.Err() != nil {
			return nil, nil, failed
		}
		f := s.proxy.classify(err)
		s.recordRetry(f)
		s.logSampled(s.retryLevel(pause), "login failed, retrying", f, zap.Float64("retry_in_s", pause.Seconds()), zap.Error(f),
			s.event(logging.Retrying, func() []string { return []string{"in " + text.Duration(pause) + ": " + f.Error()} }))
		if err := s.pause(ctx, pause); err != nil {
			return nil, nil, s.loginError(err)
		}
	}
}

// queue waits until the next attempt may begin.
func (s *session) queue(ctx context.Context, policy *retry.Policy) error {
	if policy.Allow() {
		return nil
	}
	ctx, stop := s.watchClient(ctx)
	defer stop()
	return policy.Wait(ctx)
}

// attempt connects and logs in once, with the token that it returns.
func (s *session) attempt(ctx context.Context, startup pgwire.StartupMessage) (*upstream.Conn, *upstream.LoginResult, string, error) {
	s.timings.Queue = time.Since(s.admittedAt)
	ctx, stop := s.watchClient(ctx)
	defer stop()
	server, token, err := s.dialAndFetchToken(ctx)
	if err != nil {
		return nil, nil, "", clientGoneOr(ctx, err)
	}
	server.CloseWhenDone(s.proxy.ctx)
	stopWatching := context.AfterFunc(ctx, func() { server.SetDeadline(netconn.LongAgo) })
	result, err := s.logInTo(server, startup, token)
	if !stopWatching() { // the client has disconnected, or the time is up
		err = clientGoneOr(ctx, cmp.Or(err, ctx.Err()))
	}
	if err != nil {
		server.Close()
		return nil, nil, token, err
	}
	took := server.Timings
	s.timings.Resolve, s.timings.Dial, s.timings.TLS = took.Resolve, took.Dial, took.TLS
	s.timings.Login = time.Since(s.admittedAt) - s.timings.Queue - took.Resolve - took.Dial - took.TLS
	return server, result, token, nil
}

// dialAndFetchToken connects to the server while the token is fetched. If one of them fails,
// the other is given up.
func (s *session) dialAndFetchToken(ctx context.Context) (server *upstream.Conn, token string, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		server, err = s.proxy.Upstream.Connect(ctx)
		return err
	})
	g.Go(func() (err error) {
		token, err = s.fetchToken(ctx)
		return err
	})
	if err := g.Wait(); err != nil {
		if server != nil {
			server.Close()
		}
		return nil, "", err
	}
	return server, token, nil
}

func (s *session) fetchToken(ctx context.Context) (string, error) {
	token, err := s.proxy.Tokens.Token(ctx, s.user)
	if err != nil {
		return "", pgwire.NewTokenError(s.user, err)
	}
	return token, nil
}

// logInTo logs in on a new connection, and checks the instance.
func (s *session) logInTo(server *upstream.Conn, startup pgwire.StartupMessage, token string) (*upstream.LoginResult, error) {
	result, err := upstream.Login(server, startup, token)
	if result.Authenticated {
		s.proxy.retry.Authenticated(s.user)
	}
	var own *pgwire.Error
	if errors.As(err, &own) && own.Reason == pgwire.PasswordRequested {
		own.Hint = s.proxy.Tokens.UnexpectedAuthHint(s.user)
	}
	if err != nil {
		return nil, err
	}
	s.recordServer(server, result)
	if s.proxy.RequireWritable {
		return result, upstream.CheckWritable(server, result)
	}
	return result, nil
}

// loginError returns the most specific error of the login, err included. If the client has
// disconnected, it returns that.
func (s *session) loginError(err error) error {
	if errors.Is(err, errClientDisconnected) {
		return err
	}
	s.lastError = retry.MoreSpecificError(s.lastError, err)
	return s.lastError
}

// pause waits for d. It fails if the client disconnects or the deadline does not suffice.
func (s *session) pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	ctx, stop := s.watchClient(ctx)
	defer stop()
	return retry.Sleep(ctx, d)
}

// retryLevel returns the level of the log line about a retry after pause. The first one that
// delays the client is logged at Info.
func (s *session) retryLevel(pause time.Duration) zapcore.Level {
	if !s.delayed && pause > 0 {
		s.delayed = true
		return zap.InfoLevel
	}
	return zap.DebugLevel
}
