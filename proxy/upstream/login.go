package upstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// LoginResult holds what the server sent during a login.
type LoginResult struct {
	// Authenticated reports that the server accepted the token.
	Authenticated bool
	// Key is the body of BackendKeyData: nil if there was none, as of RDS Proxy.
	Key []byte
	// Parameters are the values of in_hot_standby, default_transaction_read_only and
	// server_version, as far as the server has reported them.
	Parameters map[string]string

	messages    []byte // up to the first ReadyForQuery
	ready       []byte // ReadyForQuery
	replication bool   // physical: the connection takes no SQL
}

// StartupReply returns the messages with which the client's session begins, as they came: all
// from AuthenticationOk to ReadyForQuery. PgBouncer calls it the welcome message.
func (r *LoginResult) StartupReply() []byte { return slices.Concat(r.messages, r.ready) }

// Login sends a startup message, and the token to a server that requests a cleartext
// password, once. It returns when the server is ready for queries. The error is a
// *pgwire.ServerError, an *pgwire.Error, or that of the connection; the result is valid
// then, too.
func Login(conn *Conn, startup pgwire.StartupMessage, token string) (*LoginResult, error) {
	r, began := &LoginResult{replication: startup.IsPhysicalReplication()}, time.Now()
	err := r.login(conn, startup, token)
	conn.Timings.Login = time.Since(began)
	var server *pgwire.ServerError
	if errors.As(err, &server) {
		server.Before, server.RDSProxy = r.messages, conn.RDSProxy
	}
	return r, err
}

func (r *LoginResult) login(conn *Conn, startup pgwire.StartupMessage, token string) error {
	if _, err := conn.Write(startup.Encode()); err != nil {
		return err
	}
	if err := r.authenticate(conn, startup.Get("user"), token); err != nil {
		return err
	}
	r.Authenticated = true
	return r.waitReady(conn)
}

// authenticate handles the server's messages up to AuthenticationOk.
func (r *LoginResult) authenticate(conn *Conn, user, token string) error {
	for tokenSent := false; ; {
		m, err := pgwire.ReadMessage(conn)
		if err != nil {
			return err
		}
		switch m.Type() {
		case pgwire.ErrorResponse:
			phase := pgwire.BeforeToken
			if tokenSent {
				phase = pgwire.TokenSent
			}
			return pgwire.NewServerError(m, phase)
		case pgwire.Authentication:
			ok, err := r.handleAuthRequest(conn, m, user, token, tokenSent)
			if ok || err != nil {
				return err
			}
			tokenSent = true
		default:
			if err := r.bufferMessage(m); err != nil {
				return err
			}
		}
	}
}

// handleAuthRequest sends the token if the server requests a cleartext password, and
// reports whether the message is AuthenticationOk. A request for MD5 or SCRAM is not
// answered: a hash of the token is of use only to an eavesdropper.
func (r *LoginResult) handleAuthRequest(conn *Conn, m pgwire.Message, user, token string, tokenSent bool) (ok bool, err error) {
	if len(m.Body()) < 4 {
		return false, pgwire.NewError(pgwire.AuthRequestInvalid, nil)
	}
	switch method := binary.BigEndian.Uint32(m.Body()); {
	case method == pgproto3.AuthTypeOk:
		return true, r.bufferMessage(m)
	case method == pgproto3.AuthTypeCleartextPassword && !tokenSent:
		_, err := conn.Write(pgwire.Encode(&pgproto3.PasswordMessage{Password: token}))
		return false, err
	case method == pgproto3.AuthTypeCleartextPassword:
		return false, pgwire.NewError(pgwire.PasswordRepeated, nil)
	default:
		return false, pgwire.NewError(pgwire.PasswordRequested, nil, authMethod(method), user)
	}
}

// authMethod returns the name of an authentication method.
func authMethod(method uint32) string {
	switch method {
	case pgproto3.AuthTypeMD5Password:
		return "MD5"
	case pgproto3.AuthTypeSASL:
		return "SCRAM"
	case pgproto3.AuthTypeGSS, pgproto3.AuthTypeGSSCont, 9: // 9 is SSPI
		return "Kerberos"
	default:
		return fmt.Sprintf("unknown (%d)", method)
	}
}

// bufferMessage keeps a message for the client, which gets it only from an attempt that
// succeeds.
func (r *LoginResult) bufferMessage(m pgwire.Message) error {
	if len(r.messages)+len(m) > pgwire.MaxLogin {
		return pgwire.NewError(pgwire.MessagesTooLong, nil)
	}
	r.messages = append(r.messages, m...)
	return nil
}

// waitReady buffers the server's messages from AuthenticationOk to ReadyForQuery. The
// server may still refuse the login then: no such database, too many connections.
func (r *LoginResult) waitReady(conn *Conn) error {
	for {
		m, err := pgwire.ReadMessage(conn)
		if err != nil {
			return err
		}
		switch m.Type() {
		case pgwire.ErrorResponse:
			return pgwire.NewServerError(m, pgwire.Authenticated)
		case pgwire.ReadyForQuery:
			if len(r.messages)+len(m) > pgwire.MaxLogin {
				return pgwire.NewError(pgwire.MessagesTooLong, nil)
			}
			r.ready = m
			return nil
		case pgwire.BackendKeyData:
			if r.Key == nil {
				r.Key = m.Body()
			}
		case pgwire.ParameterStatus:
			r.recordParameter(m.Body())
		}
		if err := r.bufferMessage(m); err != nil {
			return err
		}
	}
}

func (r *LoginResult) recordParameter(body []byte) {
	var status pgproto3.ParameterStatus
	if status.Decode(body) != nil || !slices.Contains([]string{InHotStandby, ReadOnlyDefault, ServerVersion}, status.Name) {
		return
	}
	if r.Parameters == nil {
		r.Parameters = make(map[string]string)
	}
	r.Parameters[status.Name] = status.Value
}
