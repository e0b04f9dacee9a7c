package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// session is one client's connection, from its first byte to its last. Its
// steps stand below in their order:
//
//	serve                   accept, and what to do with what the client wants
//	  receiveStartup        SSLRequest, GSSENCRequest, then the startup packet
//	  cancel                or a CancelRequest instead (cancel.go)
//	  logIn                 twice if the first token is refused
//	    prepare             connect (upstream.go) while the token is fetched
//	    authenticate        startup packet, token, what the server says to it (login.go)
//	    hand over           all that the server says until it is ready (login.go)
//	  splice                copy both ways until one side ends (splice.go)
//	  refuse                or, if a step fails, tell the client why
type session struct {
	proxy  *Proxy
	log    *zap.Logger
	client net.Conn
	began  time.Time

	user, database string // as logged in to upstream

	// held is what the server said before it took the token: NegotiateProtocolVersion
	// and notices. The client gets it only from the login that succeeds.
	held []byte
	key  *cancelTarget // nil if the server gave none, as RDS Proxy
}

// serve is the whole of a client's connection.
func (p *Proxy) serve(client net.Conn) {
	defer p.handlers.Done()
	defer client.Close()
	defer context.AfterFunc(p.ctx, func() { client.Close() })()

	s := &session{
		proxy:  p,
		client: client,
		began:  time.Now(),
		log: p.log().With(
			zap.Uint64("session", p.serial.Add(1)),
			zap.String("endpoint", p.Endpoint),
			zap.Stringer("client", client.RemoteAddr())),
	}
	packet, err := s.receiveStartup()
	switch {
	case errors.Is(err, errNoStartup):
		s.log.Debug("connection that asked for nothing", zap.Error(err))
		return
	case err == nil && packet.code == cancelRequestCode:
		s.cancel(packet)
		return
	case err != nil:
		s.refuse(err)
		return
	}
	if !p.admit(s) {
		s.refuse(&Error{Code: cannotConnectNow, Message: "shutting down", Hint: "connect again in a moment"})
		return
	}
	defer p.leave(s)
	defer s.forget()

	server, err := s.logIn(packet)
	if err != nil {
		s.refuse(err)
		return
	}
	s.splice(server)
}

// receiveStartup answers requests for encryption with "no", each at most once,
// and returns the first packet that is something else.
func (s *session) receiveStartup() (firstPacket, error) {
	s.client.SetDeadline(time.Now().Add(s.proxy.connectTimeout()))
	seen := make(map[uint32]bool)
	for {
		packet, err := readFirstPacket(s.client)
		switch {
		case timedOut(err) && !errors.Is(err, errNoStartup):
			return packet, &Error{Code: connectionFailure, Message: "no complete startup packet within " + s.proxy.connectTimeout().String()}
		case err != nil:
			return packet, err
		case packet.code != sslRequestCode && packet.code != gssRequestCode:
			return packet, nil
		case seen[packet.code]:
			return packet, &Error{Code: protocolViolation, Message: "the client asks for the same encryption twice"}
		}
		seen[packet.code] = true
		if _, err := s.client.Write([]byte{'N'}); err != nil {
			return packet, fmt.Errorf("%w: %w", errNoStartup, err)
		}
	}
}

// logIn returns a server that has said that it is ready, and has the client
// know it.
func (s *session) logIn(packet firstPacket) (*upstream, error) {
	wish, err := s.wish(packet)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.proxy.ctx, s.proxy.connectTimeout())
	defer cancel()
	deadline, _ := ctx.Deadline()
	s.client.SetDeadline(deadline)

	server, err := s.attempt(ctx, wish)
	var refusal *serverError
	if errors.As(err, &refusal) && refusal.refusedToken() {
		s.log.Debug("token refused; trying once more with a new one", zap.Error(err))
		server, err = s.attempt(ctx, wish)
	}
	if err != nil {
		return nil, err
	}
	if err := s.handOver(server); err != nil {
		server.Close()
		return nil, err
	}
	s.client.SetDeadline(time.Time{})
	server.SetDeadline(time.Time{})
	return server, nil
}

// wish is what the client asks for, with what the proxy is set to ask for
// instead. Everything else goes up as it came, protocol versions and options
// that we do not know included: the server decides about them.
func (s *session) wish(packet firstPacket) (startup, error) {
	if packet.majorVersion() != 3 {
		return startup{}, &Error{
			Code:    featureNotSupported,
			Message: fmt.Sprintf("unsupported frontend protocol %d.%d: version 3 is supported", packet.majorVersion(), packet.minorVersion()),
		}
	}
	wish, err := parseStartup(packet)
	if err != nil {
		return startup{}, err
	}
	if s.proxy.User != "" {
		wish.set("user", s.proxy.User)
	}
	if s.proxy.Database != "" {
		wish.set("database", s.proxy.Database)
	}
	s.user, s.database = wish.get("user"), wish.get("database")
	if s.user == "" {
		return startup{}, &Error{Code: invalidAuthorization, Message: "no PostgreSQL user name specified in startup packet"}
	}
	s.log = s.log.With(zap.String("user", s.user), zap.String("database", s.database))
	return wish, nil
}

// attempt connects and logs in once. A token that is refused is not used again.
func (s *session) attempt(ctx context.Context, wish startup) (*upstream, error) {
	server, token, err := s.prepare(ctx)
	if err != nil {
		return nil, err
	}
	err = s.authenticate(server, wish, token)
	if err == nil {
		return server, nil
	}
	server.Close()
	var refusal *serverError
	if errors.As(err, &refusal) && refusal.refusedToken() {
		s.proxy.Tokens.Refuse(s.user, token)
		refusal.hint = s.proxy.Tokens.RefusedHint(s.user)
	}
	return nil, err
}

// prepare connects to the server while the token is fetched. If one of them
// fails, the other is given up.
func (s *session) prepare(ctx context.Context) (server *upstream, token string, err error) {
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		server, err = s.proxy.connect(ctx, s.proxy.address())
		return err
	})
	both.Go(func() (err error) {
		token, err = s.fetchToken(ctx)
		return err
	})
	if err := both.Wait(); err != nil {
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
		return "", tokenError(s.user, err)
	}
	return token, nil
}

// refuse tells the client and the log why there will be no session.
func (s *session) refuse(err error) {
	if errors.Is(err, errInMessage) {
		s.log.Warn("login cut off", zap.Error(err))
		return
	}
	var response []byte
	var server *serverError
	if errors.As(err, &server) {
		response = append(s.held, server.withHint()...)
		s.log.Warn("login refused by the server",
			zap.String("sqlstate", server.said.Code), zap.Error(err), zap.String("hint", server.hint))
	} else {
		failure := s.proxy.failure(err)
		response = failure.message()
		s.log.Warn("no session", zap.String("sqlstate", failure.Code), zap.Error(failure), zap.String("hint", failure.Hint))
	}
	s.client.SetWriteDeadline(time.Now().Add(lingerTime))
	if _, err := s.client.Write(response); err == nil {
		s.linger()
	}
}
