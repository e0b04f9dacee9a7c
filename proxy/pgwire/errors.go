package pgwire

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// The SQLSTATEs of the proxy's errors.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	CannotConnect        = "08001" // sqlclient_unable_to_establish_sqlconnection
	ConnectionFailure    = "08006" // connection_failure
	ProtocolViolation    = "08P01" // protocol_violation
	FeatureNotSupported  = "0A000" // feature_not_supported
	InvalidAuthorization = "28000" // invalid_authorization_specification
	CannotConnectNow     = "57P03" // cannot_connect_now
	TooManyConnections   = "53300" // too_many_connections
)

// Transience is whether an attempt that failed may succeed a moment later.
type Transience int

const (
	Permanent    Transience = iota
	IfSeenBefore            // transient where an earlier login has succeeded
	Transient
)

// Error is a failure in the proxy that ends a connection before its session.
// NewError makes one.
type Error struct {
	Reason     Reason
	Code       string // SQLSTATE
	Message    string // the client reads it after "iamproxy: ", with the cause
	Hint       string // may be empty
	Err        error  // the cause, or nil
	Transience Transience
	Rejected   bool // the client was rejected before any attempt to log in

	checkable bool
}

// NewTokenError returns the Error of a login of user for which there is no token because of
// err. Its reason is that of err if err has a method Reason() string. Its code says that the
// failure may pass if a method Temporary() bool beside it does.
func NewTokenError(user string, err error) *Error {
	reason := NoToken
	if netconn.IsTimeout(err) {
		reason = TokenTimeout
	}
	return newCredentialsError(reason, err, user)
}

// NewSessionError returns the Error of a session of Session Manager to target that could not be
// opened because of err, which may be an error of the credentials. Its reason and its code are as
// for NewTokenError, and else SSMUnreachable and that of the reason.
func NewSessionError(target string, err error) *Error {
	return newCredentialsError(SSMUnreachable, err, target)
}

// newCredentialsError returns an Error whose cause may be an error of the credentials, which has
// the methods that NewTokenError describes.
func newCredentialsError(reason Reason, err error, args ...any) *Error {
	failed := NewError(reason, err, args...)
	failed.Hint = cmp.Or(text.Advice(err), failed.Hint)
	var adviser interface{ ClientAdvice() string }
	if errors.As(err, &adviser) {
		failed.Hint = adviser.ClientAdvice()
	}
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		failed.Transience = IfSeenBefore
	}
	var cause interface {
		Reason() string
		Temporary() bool
	}
	if errors.As(err, &cause) {
		failed.Reason = Reason(cause.Reason())
		failed.Code = InvalidAuthorization
		if cause.Temporary() {
			failed.Code = CannotConnectNow
		}
	}
	return failed
}

// Error returns the message and the cause, without the prefixes of Go's standard library. Err has
// the whole chain.
func (e *Error) Error() string {
	if cause := causeText(e.Err); cause != "" {
		return e.Message + ": " + cause
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Err }

// Advice returns the hint.
func (e *Error) Advice() string { return e.Hint }

// Checkable reports whether `iamproxy check` finds the cause.
func (e *Error) Checkable() bool { return e.checkable }

// ErrorResponse returns the message for the client: a FATAL error.
func (e *Error) ErrorResponse() []byte {
	return Encode(&pgproto3.ErrorResponse{
		Severity:            "FATAL",
		SeverityUnlocalized: "FATAL",
		Code:                e.Code,
		Message:             text.OneLine("iamproxy: " + e.Error()),
		Hint:                text.OneLine(e.Hint),
	})
}

// ServerError is an ErrorResponse with which the server ended a login. The client gets it
// as it came, but for an added hint.
type ServerError struct {
	Fields pgproto3.ErrorResponse
	Before []byte // messages of the server before it, as they came
	Hint   string // to be added; may be empty
	// RDSProxy marks an error of an RDS Proxy, which the text identifies.
	RDSProxy bool

	message Message
	phase   LoginPhase
}

// LoginPhase is the progress of a login.
type LoginPhase int

const (
	BeforeToken   LoginPhase = iota
	TokenSent                // the server's next message is the answer to the token
	Authenticated            // the server has sent AuthenticationOk
)

// NewServerError reads an ErrorResponse that came in a phase of the login. The error is an
// *Error if the message has no SQLSTATE or cannot be read.
func NewServerError(m Message, phase LoginPhase) error {
	e := &ServerError{message: m, phase: phase}
	if err := e.Fields.Decode(m.Body()); err != nil {
		return NewError(ErrorInvalid, err)
	}
	if e.Fields.Code == "" {
		return NewError(ErrorWithoutCode, nil)
	}
	return e
}

func (e *ServerError) Error() string {
	return fmt.Sprintf("server error: %s (SQLSTATE %s)", text.OneLine(e.Fields.Message), e.Fields.Code)
}

// Advice returns the hint to be added.
func (e *ServerError) Advice() string { return e.Hint }

// Checkable reports whether `iamproxy check` finds the cause: the server refused the token or the
// user. Any other error states its cause.
func (e *ServerError) Checkable() bool {
	return !e.IsRateLimit() && (e.isAuthClass() || e.Reason() == DSQLAccessDenied)
}

// Copy returns the same message without what is added to it for one client.
func (e *ServerError) Copy() *ServerError {
	return &ServerError{Fields: e.Fields, RDSProxy: e.RDSProxy, message: e.message, phase: e.phase}
}

// serverTexts identifies errors of a login that have no specific SQLSTATE. No other code of a
// login matches the text of a server.
//
// https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy.troubleshooting.html
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/troubleshooting.html
var serverTexts = []struct {
	rdsProxy bool   // of an RDS Proxy only
	class    string // of the SQLSTATE
	text     string
	reason   Reason
}{
	{true, "", "too many competing requests", ProxyThrottled},
	{true, "", "Rate of connection to proxy exceeded", ProxyThrottled},
	{false, "28", "has no credentials for the role", ProxySecretMissing},
	{false, "28", "IAM authentication is not allowed for the role", ProxyIAMNotAllowed},
	{false, "08", "access denied", DSQLAccessDenied},
}

// Reason returns the reason. PostgreSQL checks that a role has LOGIN after it has accepted the
// token (InitializeSessionUserId in its miscinit.c).
func (e *ServerError) Reason() Reason {
	if reason := e.textReason(); reason != "" {
		return reason
	}
	if e.phase == Authenticated {
		if e.isAuthClass() {
			return LoginNotPermitted
		}
		return ServerRefused
	}
	if e.IsAuthFailure() {
		return TokenRefused
	}
	return ServerRefused
}

// textReason returns the reason that the text identifies, or "". An RDS Proxy may throttle at any
// phase; it sends its other texts before it accepts the token.
func (e *ServerError) textReason() Reason {
	for _, t := range serverTexts {
		if t.rdsProxy && !e.RDSProxy || !t.rdsProxy && e.phase == Authenticated {
			continue
		}
		if strings.HasPrefix(e.Fields.Code, t.class) && strings.Contains(strings.ToLower(e.Fields.Message), strings.ToLower(t.text)) {
			return t.reason
		}
	}
	return ""
}

// isAuthClass reports whether the SQLSTATE is of class 28, invalid authorization specification.
func (e *ServerError) isAuthClass() bool { return strings.HasPrefix(e.Fields.Code, "28") }

// IsAuthFailure reports whether the server refused the token: class 28 in answer to it, unless it
// refused the login for the number of logins.
func (e *ServerError) IsAuthFailure() bool {
	return e.phase == TokenSent && e.isAuthClass() && !e.IsRateLimit()
}

// IsShutdown reports whether the server starts, stops or recovers.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func (e *ServerError) IsShutdown() bool {
	return slices.Contains([]string{
		"57P01", // admin_shutdown
		"57P02", // crash_shutdown
		"57P03", // cannot_connect_now
	}, e.Fields.Code)
}

// IsRateLimit reports whether the server refused the login for the number of logins: Aurora DSQL
// with configuration_limit_exceeded, an RDS Proxy by its text.
func (e *ServerError) IsRateLimit() bool {
	return e.Fields.Code == "53400" || e.textReason() == ProxyThrottled
}

// ErrorResponse returns the server's messages up to and with the error, and with the
// hint added if the server's error has none.
// https://www.postgresql.org/docs/current/protocol-error-fields.html
func (e *ServerError) ErrorResponse() []byte {
	b := bytes.Clone(e.Before)
	fields, terminated := bytes.CutSuffix(e.message, []byte{0})
	if e.Hint == "" || e.Fields.Hint != "" || !terminated {
		return append(b, e.message...)
	}
	begin := len(b)
	b = append(append(b, fields...), 'H')
	b = append(b, text.OneLine(e.Hint)...)
	b = append(b, 0, 0)
	binary.BigEndian.PutUint32(b[begin+1:], uint32(len(b)-begin-1))
	return b
}

// ReasonOf returns the reason of an *Error or a *ServerError; of any other error it is
// empty.
func ReasonOf(err error) Reason {
	var own *Error
	var server *ServerError
	switch {
	case errors.As(err, &own):
		return own.Reason
	case errors.As(err, &server):
		return server.Reason()
	default:
		return ""
	}
}

// SQLSTATE returns the code that a client would get for err: that of an *Error or a
// *ServerError, and CannotConnectNow for any other error, which is that of a connection. Of nil
// it is empty.
func SQLSTATE(err error) string {
	var own *Error
	var server *ServerError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &own):
		return own.Code
	case errors.As(err, &server):
		return server.Fields.Code
	default:
		return CannotConnectNow
	}
}
