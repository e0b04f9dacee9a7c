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

// turnAway is about a client from which no startup packet was to be had.
func (s *session) turnAway(err error) {
	switch {
	case errors.Is(err, pgwire.ErrNoStartup):
		s.log().Debug("connection closed before startup packet", zap.Error(err))
		if netconn.IsTimeout(err) {
			s.tell(s.proxy.noStartupInTime().ErrorResponse())
		}
	case errors.Is(err, errNoTLS):
		s.logSampled(zap.InfoLevel, "TLS handshake failed", "", zap.Error(err),
			zap.String("hint", "the client says why; if it verifies certificates, it has to trust this listener's"))
	default:
		s.refuse(err)
	}
}

// refuse tells the client and the log why there will be no session.
func (s *session) refuse(err error) {
	var response []byte
	var server *pgwire.ServerError
	var own *pgwire.Error
	switch {
	case errors.Is(err, errClientLeft):
		s.recordDisconnect()
		return
	case !errors.As(err, &own) && errors.As(err, &server):
		if server.IsAuthFailure() {
			server.Hint = s.refusedHint()
		}
		response = server.ErrorResponse()
		s.recordFailure(server, server.Hint)
		s.logFailure(zap.WarnLevel, "login refused by the server", server, zap.Error(err), hintField(server.Hint))
	default:
		failure := s.proxy.failure(err)
		response = failure.ErrorResponse()
		s.recordFailure(failure, failure.Hint)
		s.logFailure(zap.WarnLevel, "connection rejected", failure, zap.Error(failure), hintField(failure.Hint))
	}
	if s.admitted {
		s.proxy.ended(s) // there is room for another while this one is told
	}
	s.tell(response)
}

// logFailure writes a sampled line about err, an *pgwire.Error or a *pgwire.ServerError.
func (s *session) logFailure(level zapcore.Level, message string, err error, fields ...zap.Field) {
	reason := pgwire.ReasonOf(err)
	fields = append(fields, zap.String("reason", string(reason)), zap.String("sqlstate", pgwire.SQLSTATE(err)))
	s.logSampled(level, message, string(reason)+" "+pgwire.SQLSTATE(err), fields...)
}

// hintField is absent without a hint.
func hintField(hint string) zap.Field {
	if hint == "" {
		return zap.Skip()
	}
	return zap.String("hint", hint)
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
