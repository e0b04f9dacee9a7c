package proxy

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/retry"
)

// connectWithRetry attempts to log in until an attempt succeeds, or another one is of no
// use or would come too late. The error is the most specific one of all attempts.
func (s *session) connectWithRetry(ctx context.Context, wish pgwire.StartupMessage) (*upstream, error) {
	policy := s.proxy.retry.Begin(s.user, s.proxy.connectTimeout())
	defer policy.End()
	for {
		if err := s.queue(ctx, policy); err != nil {
			return nil, s.loginError(err)
		}
		s.took.Attempts++
		server, token, err := s.attempt(ctx, wish)
		if err == nil {
			policy.Succeeded()
			s.failed = nil
			return server, nil
		}
		failed := s.loginError(err)
		if errors.Is(err, errClientLeft) {
			return nil, failed
		}
		pause, again := policy.Next(err, s.nextToken(ctx, token, err))
		if !again || ctx.Err() != nil {
			return nil, failed
		}
		s.recordRetry(err)
		s.logSampled(s.retryLevel(pause), "login failed; it is tried again", pgwire.SQLSTATE(err), zap.Duration("in", pause), zap.Error(err))
		if err := s.pause(ctx, pause); err != nil {
			return nil, s.loginError(err)
		}
	}
}

// loginError returns the most specific error of the login, err included. If the client has
// disconnected, it returns that.
func (s *session) loginError(err error) error {
	if errors.Is(err, errClientLeft) {
		return err
	}
	s.failed = retry.MoreSpecificError(s.failed, err)
	return s.failed
}

// nextToken invalidates the token of an attempt that failed with err, if the server refused
// it. It reports whether another token follows.
func (s *session) nextToken(ctx context.Context, token string, err error) retry.NextToken {
	var server *pgwire.ServerError
	if !errors.As(err, &server) || !server.IsAuthFailure() || !s.proxy.Tokens.Invalidate(s.user, token) {
		return retry.SameToken
	}
	if next, err := s.fetchToken(ctx); err != nil || next == token {
		return retry.NewTokenLater
	}
	return retry.NewToken
}

// queue waits until the next attempt may begin.
func (s *session) queue(ctx context.Context, policy *retry.Policy) error {
	if policy.Allow() {
		return nil
	}
	ctx, stop := s.whileClientWaits(ctx)
	defer stop()
	return policy.Wait(ctx)
}

// pause waits for d. It fails if the client disconnects or the deadline does not suffice.
func (s *session) pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	ctx, stop := s.whileClientWaits(ctx)
	defer stop()
	return retry.Sleep(ctx, d)
}

// retryLevel returns the level of the log line about a retry after pause. The first one that
// delays the client is worth the attention of an operator.
func (s *session) retryLevel(pause time.Duration) zapcore.Level {
	if s.took.Attempts == 1 && pause > 0 {
		return zap.InfoLevel
	}
	return zap.DebugLevel
}
