package proxy

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"
)

// The types of the server's messages that matter during a login.
// https://www.postgresql.org/docs/current/protocol-message-formats.html
const (
	authentication  = 'R'
	backendKeyData  = 'K'
	dataRow         = 'D'
	errorResponse   = 'E'
	noticeResponse  = 'N'
	parameterStatus = 'S'
	readyForQuery   = 'Z'
)

// authenticate sends the startup packet and gives the token to a server that
// asks for a cleartext password, once. It returns when the server has taken it
// (AuthenticationOk is the last message in held), or with the *serverError that
// came instead.
func (s *session) authenticate(server *upstream, wish startup, token string) error {
	s.held, s.keyData, s.reported = nil, nil, nil
	if _, err := server.Write(wish.encode()); err != nil {
		return err
	}
	for tokenSent := false; ; {
		m, err := readMessage(server)
		if err != nil {
			return err
		}
		switch m.kind() {
		case errorResponse:
			return newServerError(m, tokenSent)
		case authentication:
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
func (s *session) answer(server *upstream, m message, token string, tokenSent bool) (done bool, err error) {
	if len(m.body()) < 4 {
		return false, &fatalError{Code: protocolViolation, Message: "the server sent an authentication request that cannot be read"}
	}
	switch method := binary.BigEndian.Uint32(m.body()); {
	case method == pgproto3.AuthTypeOk:
		return true, s.hold(m)
	case method == pgproto3.AuthTypeCleartextPassword && !tokenSent:
		_, err := server.Write(encode(&pgproto3.PasswordMessage{Password: token}))
		return false, err
	case method == pgproto3.AuthTypeCleartextPassword:
		return false, &fatalError{Code: protocolViolation, Message: "the server asked for the password twice"}
	default:
		return false, &fatalError{
			Code:    invalidAuthorization,
			Kind:    "another kind of password",
			Message: fmt.Sprintf("the server asks %s for %s, not for a token", s.user, methodName(method)),
			Hint:    s.proxy.Tokens.UnexpectedAuthHint(s.user),
		}
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
func (s *session) hold(m message) error {
	if len(s.held)+len(m.raw) > maxLogin {
		return &fatalError{Code: protocolViolation, Message: "the server sends too much before the session begins"}
	}
	s.held = append(s.held, m.raw...)
	return nil
}

// awaitReady holds all that the server says from AuthenticationOk to its first
// ReadyForQuery, which it returns. A refusal (no such database, too many
// connections) is the error.
func (s *session) awaitReady(server *upstream) (ready message, err error) {
	for {
		m, err := readMessage(server)
		if err != nil {
			return message{}, err
		}
		switch m.kind() {
		case errorResponse:
			return message{}, newServerError(m, false)
		case readyForQuery:
			return m, nil
		case backendKeyData:
			if s.keyData == nil {
				s.keyData = m.body()
			}
		case parameterStatus:
			s.noteParameter(m.body())
		}
		if err := s.hold(m); err != nil {
			return message{}, err
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
