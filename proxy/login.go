package proxy

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// authenticate sends the startup packet and gives the token to a server that
// asks for a cleartext password, once. It returns when the server has taken it
// (AuthenticationOk is the last message in held), or with the *serverError that
// came instead.
func (s *session) authenticate(server *upstream, wish pgwire.StartupMessage, token string) error {
	s.held, s.keyData, s.reported = nil, nil, nil
	if _, err := server.Write(wish.Encode()); err != nil {
		return err
	}
	for tokenSent := false; ; {
		m, err := pgwire.ReadMessage(server)
		if err != nil {
			return err
		}
		switch m.Type() {
		case pgwire.ErrorResponse:
			return pgwire.NewServerError(m, tokenSent)
		case pgwire.Authentication:
			done, err := s.answer(server, m, token, tokenSent)
			if done || err != nil {
				return err
			}
			tokenSent = true
		default:
			if err := s.hold(m); err != nil {
				return err
			}
		}
	}
}

// answer gives the server what it asks for, if that is a token, and reports
// whether it has asked enough. MD5 and SCRAM would be answered with a hash of
// the token, which is of use to nobody but an eavesdropper.
func (s *session) answer(server *upstream, m pgwire.Message, token string, tokenSent bool) (done bool, err error) {
	if len(m.Body()) < 4 {
		return false, pgwire.NewError(pgwire.AuthRequestInvalid, nil)
	}
	switch method := binary.BigEndian.Uint32(m.Body()); {
	case method == pgproto3.AuthTypeOk:
		return true, s.hold(m)
	case method == pgproto3.AuthTypeCleartextPassword && !tokenSent:
		_, err := server.Write(pgwire.Encode(&pgproto3.PasswordMessage{Password: token}))
		return false, err
	case method == pgproto3.AuthTypeCleartextPassword:
		return false, pgwire.NewError(pgwire.PasswordRepeated, nil)
	default:
		failed := pgwire.NewError(pgwire.PasswordRequested, nil, s.user, methodName(method))
		failed.Hint = s.proxy.Tokens.UnexpectedAuthHint(s.user)
		return false, failed
	}
}

func methodName(method uint32) string {
	switch method {
	case pgproto3.AuthTypeMD5Password:
		return "an MD5 password"
	case pgproto3.AuthTypeSASL:
		return "a SCRAM password"
	case pgproto3.AuthTypeGSS, pgproto3.AuthTypeGSSCont, 9: // 9 is SSPI
		return "Kerberos"
	default:
		return fmt.Sprintf("authentication method %d", method)
	}
}

// hold keeps a message until it is known that the client is to have it.
func (s *session) hold(m pgwire.Message) error {
	if len(s.held)+len(m) > pgwire.MaxLogin {
		return pgwire.NewError(pgwire.MessagesTooLong, nil)
	}
	s.held = append(s.held, m...)
	return nil
}

// awaitReady holds all that the server says from AuthenticationOk to its first
// ReadyForQuery, which it returns. A refusal (no such database, too many
// connections) is the error.
func (s *session) awaitReady(server *upstream) (ready pgwire.Message, err error) {
	for {
		m, err := pgwire.ReadMessage(server)
		if err != nil {
			return nil, err
		}
		switch m.Type() {
		case pgwire.ErrorResponse:
			return nil, pgwire.NewServerError(m, false)
		case pgwire.ReadyForQuery:
			return m, nil
		case pgwire.BackendKeyData:
			if s.keyData == nil {
				s.keyData = m.Body()
			}
		case pgwire.ParameterStatus:
			s.noteParameter(m.Body())
		}
		if err := s.hold(m); err != nil {
			return nil, err
		}
	}
}

// noteParameter keeps the settings that checkTarget goes by, and the version.
func (s *session) noteParameter(body []byte) {
	var status pgproto3.ParameterStatus
	if status.Decode(body) != nil || !slices.Contains([]string{inHotStandby, readOnlyDefault, serverVersion}, status.Name) {
		return
	}
	if s.reported == nil {
		s.reported = make(map[string]string)
	}
	s.reported[status.Name] = status.Value
}

// handOver gives the client all that the server has said, as it came and to the
// byte; of a connection that may be another's later, what goes for this one.
func (s *session) handOver(server *upstream) error {
	said := s.held
	if server.spare != nil {
		said = s.greet(server)
	} else {
		s.remember(s.keyData, s.keyData, server) // before the client has it
	}
	if _, err := s.client.Write(said); err != nil {
		return fmt.Errorf("%w: %w", errClientLeft, err)
	}
	s.held, s.keyData, s.reported = nil, nil, nil // of no more use, for as long as the session is
	return nil
}
