package proxy

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// turnAway is about a client from which no startup packet was to be had.
func (s *session) turnAway(err error) {
	switch {
	case errors.Is(err, errNoStartup):
		s.log().Debug("connection that asked for nothing", zap.Error(err))
		if netconn.IsTimeout(err) {
			s.tell(s.proxy.noStartupInTime().response())
		}
	case errors.Is(err, errNoTLS):
		s.logSampled(zap.InfoLevel, "client given up", "", zap.Error(err),
			zap.String("hint", "the client says why; if it verifies certificates, it has to trust this listener's"))
	default:
		s.refuse(err)
	}
}

// refuse tells the client and the log why there will be no session.
func (s *session) refuse(err error) {
	var response []byte
	var server *serverError
	var own *fatalError
	switch {
	case errors.Is(err, errClientLeft):
		s.abandoned()
		return
	case !errors.As(err, &own) && errors.As(err, &server):
		if server.refusedToken() {
			server.hint = s.refusedHint()
		}
		response = append(server.before, server.withHint()...)
		s.noteFailure(server, server.hint)
		s.logSampled(zap.WarnLevel, "login refused by the server", server.said.Code,
			zap.String("sqlstate", server.said.Code), zap.Error(err), zap.String("hint", server.hint))
	default:
		failure := s.proxy.failure(err)
		response = failure.response()
		s.noteFailure(failure, failure.Hint)
		s.logSampled(zap.WarnLevel, "no session", failure.Code+" "+failure.kind(),
			zap.String("sqlstate", failure.Code), zap.Error(failure), zap.String("hint", failure.Hint))
	}
	if s.admitted {
		s.proxy.ended(s) // there is room for another while this one is told
	}
	s.tell(response)
}

// refusedHint may have to be asked for.
func (s *session) refusedHint() string {
	ctx, cancel := context.WithTimeout(s.proxy.ctx, hintTimeout)
	defer cancel()
	return s.proxy.Tokens.RefusedHint(ctx, s.user)
}

// tell sends a client the last that it hears, and waits until it has read that, unless
// there are too many to wait for.
func (s *session) tell(response []byte) {
	s.client.SetWriteDeadline(time.Now().Add(lingerTime))
	if _, err := s.client.Write(response); err != nil || s.hurried {
		return
	}
	defer s.proxy.lingering.Add(-1)
	if s.proxy.lingering.Add(1) <= s.proxy.share(maxLingering) {
		s.linger()
	}
}
