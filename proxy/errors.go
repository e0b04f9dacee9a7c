package proxy

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// The SQLSTATEs that the proxy itself answers with.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	cannotConnect        = "08001" // sqlclient_unable_to_establish_sqlconnection
	connectionFailure    = "08006" // connection_failure
	protocolViolation    = "08P01" // protocol_violation
	featureNotSupported  = "0A000" // feature_not_supported
	invalidAuthorization = "28000" // invalid_authorization_specification
	cannotConnectNow     = "57P03" // cannot_connect_now
	readOnlyTransaction  = "25006" // read_only_sql_transaction
	tooManyConnections   = "53300" // too_many_connections
)

// fatalError is a failure that ends a connection before its session. The client is
// told as a FATAL error; the texts are for people, in one line and lower case.
type fatalError struct {
	Code    string // SQLSTATE
	Message string // what failed; the client sees it behind "iamproxy: "
	Hint    string // what to do about it; may be empty
	Err     error  // why, if there is an error underneath
	Passing bool   // it may be over in a moment: see persistence
	Rejects bool   // the client itself: it was not even tried
	Kind    string // what those of the same reason have in common, if Message has in it what a client chose
}

func (e *fatalError) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

func (e *fatalError) Unwrap() error { return e.Err }

// kind is what those of the same reason have in common. What is underneath may be
// another each time.
func (e *fatalError) kind() string {
	if e.Kind != "" {
		return e.Kind
	}
	return e.Message
}

// Advice is what to do about it; it may be empty.
func (e *fatalError) Advice() string { return e.Hint }

var errShuttingDown = &fatalError{Code: cannotConnectNow, Message: "shutting down", Hint: "connect again in a moment", Rejects: true}

func (p *Proxy) tooManyClients() *fatalError {
	return &fatalError{
		Code:    tooManyConnections,
		Message: fmt.Sprintf("too many clients: there are %d already", p.Limit.Max),
		Hint:    p.Limit.Hint,
		Rejects: true,
	}
}

// gaveWay is about a client that was still arriving when too many others did. One in the
// middle of a TLS handshake cannot be told.
func (p *Proxy) gaveWay(err error) error {
	if errors.Is(err, errNoTLS) {
		return err
	}
	return &fatalError{
		Code:    tooManyConnections,
		Kind:    "too many arriving",
		Message: fmt.Sprintf("too many clients connect at once: this one had sent no startup packet for %v when %d others were there", p.arrivals.grace, p.arrivals.most),
		Hint:    "find out who connects and says nothing; a client of PostgreSQL sends its startup packet at once",
		Rejects: true,
	}
}

func notAllowed(why, hint string) *fatalError {
	return &fatalError{Code: invalidAuthorization, Kind: "not allowed", Message: why, Hint: hint, Rejects: true}
}

// response is what is sent to the client.
func (e *fatalError) response() []byte {
	return encode(&pgproto3.ErrorResponse{
		Severity:            "FATAL",
		SeverityUnlocalized: "FATAL",
		Code:                e.Code,
		Message:             text.OneLine("iamproxy: " + e.Error()),
		Hint:                text.OneLine(e.Hint),
	})
}

func (p *Proxy) noStartupInTime() *fatalError {
	return &fatalError{
		Code:    connectionFailure,
		Message: "no complete startup packet within " + p.connectTimeout().String(),
		Hint:    "--connect-timeout is how long to wait",
	}
}

// errClientLeft ends a login whose client cannot be told anything any more.
var errClientLeft = errors.New("the client left during login")

// failure is err as the client is told of it. Errors of the steps of a login
// are *fatalErrors already; what else ends a login is a shutdown, the time, or
// a broken connection.
func (p *Proxy) failure(err error) *fatalError {
	var known *fatalError
	switch {
	case p.ctx.Err() != nil:
		return errShuttingDown
	case errors.As(err, &known):
		return known
	case netconn.IsTimeout(err):
		failed := p.noAnswerBefore(err)
		failed.Hint += "; --connect-timeout is how long to wait"
		return failed
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return &fatalError{Code: connectionFailure, Message: p.target() + " closed the connection during login", Hint: p.brokenHint()}
	default:
		return &fatalError{Code: connectionFailure, Message: "the connection to " + p.target() + " broke during login", Hint: p.brokenHint(), Err: err}
	}
}

// noAnswerBefore is about a server that has said nothing when something else has ended
// the wait for it.
func (p *Proxy) noAnswerBefore(end error) *fatalError {
	return &fatalError{
		Code:    connectionFailure,
		Message: "no answer from " + p.target() + " in time",
		Hint:    cmp.Or(text.Advice(end), p.silentHint()),
		Err:     end,
	}
}

func (p *Proxy) silentHint() string {
	if p.via() != "" {
		return p.brokenHint()
	}
	return "check that security groups and routes let this host reach the database"
}

func (p *Proxy) brokenHint() string {
	via := p.via()
	if via == "" {
		return "the database's log may say why"
	}
	hint := "check that what listens at " + via + " leads to the database"
	if p.Said != nil {
		hint += "; it has said: " + cmp.Or(p.Said(), "nothing")
	}
	return hint
}

// dialError tells why the server cannot be reached.
func (p *Proxy) dialError(err error) error {
	var dns *net.DNSError
	var socks *socksRefusal
	switch {
	case errors.As(err, &socks):
		return &fatalError{
			Code:    cannotConnect,
			Message: "cannot reach " + p.target() + ": the proxy refuses",
			Hint:    "check the user, password and rules of the SOCKS5 proxy, and that it reaches the database",
			Err:     err,
			Passing: socks.passes(),
		}
	case errors.As(err, &dns):
		return &fatalError{
			Code:    cannotConnect,
			Message: "cannot resolve " + p.target(),
			Hint:    "check the name, and that this host uses the DNS of the database's network",
			Err:     err,
			Passing: !dns.IsNotFound,
		}
	case netconn.IsTimeout(err):
		return err
	case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE):
		return &fatalError{
			Code:    cannotConnect,
			Message: "cannot reach " + p.target() + ": no file descriptor is left",
			Hint:    "a session takes two; raise the limit (ulimit -n, LimitNOFILE), or set --max-sessions",
			Err:     err,
			Passing: true,
		}
	default:
		return &fatalError{
			Code:    cannotConnect,
			Message: "cannot reach " + p.target(),
			Hint:    cmp.Or(text.Advice(err), "check that the database runs, and that security groups and routes let this host reach it"),
			Err:     err,
			Passing: true,
		}
	}
}

// handshakeError tells why the server's end of the TLS connection was not
// accepted, or why there is none.
func (p *Proxy) handshakeError(err error) error {
	if netconn.IsTimeout(err) {
		return err
	}
	failed := &fatalError{
		Code:    cannotConnect,
		Message: "no TLS with " + p.target(),
		Hint:    "check that this is the database's port",
		Err:     err,
	}
	var (
		unknown  x509.UnknownAuthorityError
		name     x509.HostnameError
		invalid  x509.CertificateInvalidError
		rejected *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &name):
		failed.Message = fmt.Sprintf("%s has no certificate for %s", p.target(), p.TLS.ServerName)
		failed.Hint = "ENDPOINT must be the name that AWS gave the database; a name of your own in front of it goes into via="
	case errors.As(err, &unknown):
		failed.Message = "the certificate of " + p.target() + " is not trusted"
		failed.Hint = "the built-in roots are those of RDS and of the system; --ca-file names others"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		failed.Message = "the certificate of " + p.target() + " is not valid now"
		failed.Hint = "check this machine's clock; if it is right, the database needs a new certificate"
	case errors.As(err, &rejected):
		failed.Message = "the certificate of " + p.target() + " is not accepted"
		failed.Hint = "the database needs another certificate"
	case p.DirectTLS:
		return p.noDirectTLS(err)
	default:
		failed.Passing = netconn.IsHangup(err)
	}
	return failed
}

func (p *Proxy) noDirectTLS(err error) error {
	return &fatalError{
		Code:    cannotConnect,
		Message: "no direct TLS with " + p.target(),
		Hint:    "only PostgreSQL 17 and later take sslnegotiation=direct; leave it out",
		Err:     err,
		Passing: netconn.IsHangup(err) && p.history.hasWorked(), // else it is an older one, which hangs up
	}
}

// tokenError tells why there is no token for user.
func tokenError(user string, err error) error {
	failed := &fatalError{Code: invalidAuthorization, Kind: "no token", Message: "no token for " + user, Hint: text.Advice(err), Err: err}
	if netconn.IsTimeout(err) {
		failed.Code = connectionFailure
	}
	return failed
}

// sqlstateOf is what a client would be told for err, as far as that is known by itself.
func sqlstateOf(err error) string {
	var said *serverError
	var own *fatalError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &own):
		return own.Code
	case errors.As(err, &said):
		return said.said.Code
	default:
		return connectionFailure
	}
}

// target names the database, and where it was looked for if that is elsewhere.
func (p *Proxy) target() string {
	if via := p.via(); via != "" {
		return p.Endpoint + " (via " + via + ")"
	}
	return p.Endpoint
}

// isNotFound is about names that DNS has not.
func isNotFound(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

// encode is for messages that pgproto3 cannot fail to encode: it only refuses
// those of over 1 GB.
func encode(message interface {
	Encode(dst []byte) ([]byte, error)
}) []byte {
	b, _ := message.Encode(nil)
	return b
}
