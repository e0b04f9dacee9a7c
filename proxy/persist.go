package proxy

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// persist attempts to log in until it succeeds, or there is no use or no time for
// another attempt. The error is that of the attempt that tells most.
func (s *session) persist(ctx context.Context, wish pgwire.StartupMessage) (*upstream, error) {
	p := s.proxy
	defer p.history.begin(s.user)()
	again := persistence{history: &p.history, pacer: &p.pacer, user: s.user, timeout: p.connectTimeout(), began: time.Now()}
	for {
		for _, pacer := range again.pacers() {
			if err := s.queue(ctx, pacer, again.began); err != nil {
				return nil, tellsMore(s.failed, s.behindRefusals(pacer, err))
			}
		}
		s.took.Attempts++
		server, token, err := s.attempt(ctx, wish)
		if err == nil {
			p.history.succeeded()
			s.failed = nil
			return server, nil
		}
		if errors.Is(err, errClientLeft) {
			return nil, err
		}
		s.failed = tellsMore(s.failed, err)
		pause, yes := again.again(err, s.outlook(ctx, token, err))
		if !yes || ctx.Err() != nil {
			return nil, s.failed
		}
		s.recordRetry(err)
		s.logSampled(again.level(pause), "login failed; it is tried again", pgwire.SQLSTATE(err), zap.Duration("in", pause), zap.Error(err))
		if err := s.pause(ctx, pause); err != nil {
			return nil, tellsMore(s.failed, err)
		}
	}
}

// outlook gives up a token that was refused.
func (s *session) outlook(ctx context.Context, token string, err error) outlook {
	var refusal *pgwire.ServerError
	if !errors.As(err, &refusal) || !refusal.IsAuthFailure() || !s.proxy.Tokens.Invalidate(s.user, token) {
		return noOther
	}
	if other, err := s.fetchToken(ctx); err != nil || other == token {
		return otherLater
	}
	return otherNow
}

// queue returns when it is the turn of a login that began at the time.
func (s *session) queue(ctx context.Context, pacer *pacer, began time.Time) error {
	if pacer.begin() {
		return nil
	}
	ctx, stop := s.whileClientWaits(ctx)
	defer stop()
	err := pacer.wait(ctx, began)
	switch {
	case errors.Is(err, errQueueTooLong), errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return pgwire.NewError(pgwire.QueueFull, errQueueTooLong, s.proxy.connectTimeout())
	case err != nil:
		return context.Cause(ctx)
	}
	return nil
}

// behindRefusals is why a login's turn does not come: the user's own pacer is only
// slow because the server refuses the user's logins.
func (s *session) behindRefusals(pacer *pacer, err error) error {
	refusal := s.proxy.history.refusal(s.user)
	if refusal == nil || pacer == &s.proxy.pacer || !errors.Is(err, errQueueTooLong) {
		return err
	}
	return refusal
}

// pause is over after d, or with an error if the client has left or there is no
// time for it.
func (s *session) pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	ctx, stop := s.whileClientWaits(ctx)
	defer stop()
	if sleep(ctx, d) {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return context.DeadlineExceeded // before it is
}

// level is that of a log line about another attempt: the first for which a client
// has to wait is worth one.
func (p *persistence) level(pause time.Duration) zapcore.Level {
	if p.failures == 1 && pause > 0 {
		return zap.InfoLevel
	}
	return zap.DebugLevel
}

// tellsMore is the error of two attempts to log in that says more about what is
// wrong: the later one, unless only its time ran out, or the server had spoken
// before and now it is something else. That there was no writer says more than
// what else happens in a failover.
func tellsMore(earlier, later error) error {
	var said, says *pgwire.ServerError
	switch {
	case isNotWriter(earlier) && !errors.Is(later, errClientLeft) && (!errors.As(later, &says) || says.IsShutdown()):
		return earlier
	case earlier == nil, errors.Is(later, errClientLeft):
		return later
	case netconn.IsTimeout(later), errors.Is(later, errQueueTooLong), errors.As(earlier, &said) && !errors.As(later, &says):
		return earlier
	default:
		return later
	}
}
