package proxy

import (
	"cmp"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

const (
	// lingerTime bounds the wait for a client to read the last message sent to it.
	lingerTime = time.Second
	// rejectTimeout bounds reading the startup packet of a client that will be rejected.
	rejectTimeout = time.Second
	// hintTimeout bounds the wait for a hint.
	hintTimeout = 5 * time.Second
)

// errClientDisconnected ends a login whose client has disconnected.
var errClientDisconnected = errors.New("client disconnected during login")

var errShuttingDown = pgwire.NewError(pgwire.ShuttingDown, nil)

func (p *Proxy) startupTimeoutError() *pgwire.Error {
	return pgwire.NewError(pgwire.StartupTimeout, nil, p.connectTimeout())
}

// evictedError returns the error of a client that sent no startup packet while too many
// others connected; err is that of its connection. A client within a TLS handshake cannot be
// sent an error.
func (p *Proxy) evictedError(err error) error {
	if isUnanswerable(err) {
		return err
	}
	return pgwire.NewError(pgwire.TooManyPending, nil, p.admission.pending.limit)
}

// failure is the error that a client is sent: an *pgwire.Error or a *pgwire.ServerError.
type failure interface {
	error
	ErrorResponse() []byte
	// Checkable reports whether `iamproxy check` finds the cause.
	Checkable() bool
}

// classify returns err of a login as the client is sent it.
func (p *Proxy) classify(err error) failure {
	var own *pgwire.Error
	var server *pgwire.ServerError
	if !errors.As(err, &own) && errors.As(err, &server) {
		return server
	}
	return p.clientError(err)
}

// checkCommand returns the command line that diagnoses the failure of a login, or "" if it finds
// nothing that the failure does not show.
func (s *session) checkCommand(f failure) string {
	if s.proxy.CheckCommand == nil || !f.Checkable() {
		return ""
	}
	command := s.proxy.CheckCommand(s.user, cmp.Or(s.database, s.user))
	if text.OneLine(command) != command { // it would name another user or database
		return ""
	}
	return command
}

// withCheck returns the failure with a hint that ends with checkCommand.
func (s *session) withCheck(f failure) failure {
	command := s.checkCommand(f)
	if command == "" {
		return f
	}
	hint := "Run: " + command
	switch advice := text.Advice(f); {
	case strings.HasSuffix(advice, "."):
		hint = advice + " " + hint
	case advice != "": // ends with another command
		hint = advice + "; " + hint
	}
	switch f := f.(type) {
	case *pgwire.Error:
		hinted := *f
		hinted.Hint = hint
		return &hinted
	case *pgwire.ServerError:
		f.Hint = hint
	}
	return f
}

// clientError returns err as an Error of the proxy.
func (p *Proxy) clientError(err error) *pgwire.Error {
	if p.ctx.Err() != nil {
		return errShuttingDown
	}
	var own *pgwire.Error
	failed := p.Upstream.AsError(err)
	if failed.Reason == pgwire.TLSDirectNotOffered && failed.Transience == pgwire.IfSeenBefore && p.retry.HasSucceeded() {
		return p.Upstream.AsError(failed.Err) // the server supports direct TLS, and restarts
	}
	if failed.Reason == pgwire.NoAnswer && !errors.As(err, &own) {
		failed.Hint += " The limit is --connect-timeout."
	}
	return failed
}

// handshakeFailed ends a connection without a startup packet.
func (s *session) handshakeFailed(err error) {
	switch {
	case errors.Is(err, pgwire.ErrNoStartup):
		s.log(zap.DebugLevel, "connection closed before startup packet", zap.Error(err))
		switch {
		case netconn.IsTimeout(err):
			s.sendError(s.proxy.startupTimeoutError().ErrorResponse())
		case errors.Is(err, pgwire.ErrTerminated):
			s.closeGracefully() // node-postgres sends its startup packet all the same
		}
	case isUnanswerable(err):
		s.recordUnanswerable(err)
	default:
		s.reject(err)
	}
}

// rejectUnauthorized sends the error to a client that may not connect.
func (s *session) rejectUnauthorized(denied *pgwire.Error) {
	p := s.proxy
	defer p.admission.startups.Done()
	leave, ok := p.admission.enter(&p.admission.rejecting, maxRejecting)
	defer leave()
	if !ok {
		p.recorder.ClientFailed(stats.Rejected, s.failureRecord(denied, 1))
		return
	}
	switch packet, err := s.receiveStartup(rejectTimeout, p.admission.clientTLS); {
	case errors.Is(err, pgwire.ErrNoStartup): // the client requests nothing
	case err == nil && packet.Code == pgwire.CancelRequest && p.allowsAddress(s.client.RemoteAddr()):
		s.forwardCancel(packet) // the key is the permission; the client may have closed before its user could be found
	case err == nil && packet.Code == pgwire.CancelRequest: // is never answered
		p.cancels.Reject()
	default:
		s.reject(denied)
	}
}

// reject logs why there will be no session, and sends the client the error.
func (s *session) reject(err error) {
	if errors.Is(err, errClientDisconnected) {
		s.recordDisconnect()
		return
	}
	failure, message := s.proxy.classify(err), "connection rejected"
	if server, ok := failure.(*pgwire.ServerError); ok {
		message = "login refused by the server"
		server.Hint = s.serverHint(server)
	}
	s.recordFailure(failure)
	s.logChain(err)
	failure = s.withCheck(failure)
	s.logSampled(zap.WarnLevel, message, failure, zap.Error(failure), logging.OptionalString("hint", text.OneLine(text.Advice(failure))),
		s.event(logging.Refused, func() []string { return s.failureDetails(failure) }))
	if s.admitted {
		s.proxy.removeSession(s) // there is room for another client while this one lingers
	}
	s.sendError(failure.ErrorResponse())
}

// failureDetails returns the details of a failure for the console: the message, and the command
// that finds the cause, or else the hint.
func (s *session) failureDetails(f failure) []string {
	next := cmp.Or(s.checkCommand(f), text.Advice(f))
	if next == "" {
		return []string{f.Error()}
	}
	return []string{f.Error() + " -> " + next}
}

// logChain logs what the message of an error of the proxy leaves out: the errors between it and
// its cause.
func (s *session) logChain(err error) {
	if own := (*pgwire.Error)(nil); errors.As(err, &own) && own.Err != nil {
		s.log(zap.DebugLevel, "connection rejected because of an error", zap.String("reason", string(own.Reason)), zap.NamedError("cause", own.Err))
	}
}

// serverHint returns the hint that is added to an error of the server.
func (s *session) serverHint(server *pgwire.ServerError) string {
	if hint := pgwire.ServerHint(server.Reason(), s.user); server.RDSProxy && hint != "" {
		return hint
	}
	if !server.IsAuthFailure() {
		return ""
	}
	ctx, cancel := context.WithTimeout(s.proxy.ctx, hintTimeout)
	defer cancel()
	return s.proxy.Tokens.RefusedHint(ctx, s.user)
}

// sendError sends a client its last message.
func (s *session) sendError(response []byte) {
	s.client.SetWriteDeadline(time.Now().Add(lingerTime))
	if _, err := s.client.Write(response); err == nil && !s.evicted {
		s.closeGracefully()
	}
}

// closeGracefully lingers, unless too many connections do.
func (s *session) closeGracefully() {
	a := &s.proxy.admission
	leave, ok := a.enter(&a.lingering, maxLingering)
	defer leave()
	if ok {
		s.linger()
	}
}

// linger closes the writing side, and waits until the client has closed its own: a close with
// unread bytes is a reset, which can overtake an error message.
func (s *session) linger() {
	s.client.SetDeadline(time.Now().Add(lingerTime))
	_ = s.client.CloseWrite()
	_, _ = io.Copy(io.Discard, s.client)
}
