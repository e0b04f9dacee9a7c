package proxy

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

var errShuttingDown = pgwire.NewError(pgwire.ShuttingDown, nil)

func (p *Proxy) tooManyClients() *pgwire.Error {
	failed := pgwire.NewError(pgwire.TooManySessions, nil, p.Limit.Max)
	failed.Hint = p.Limit.Hint
	return failed
}

// evictedError returns the error of a client that sent no startup packet while too many
// others connected; err is that of its connection. One in the middle of a TLS handshake
// cannot be sent an error.
func (p *Proxy) evictedError(err error) error {
	if errors.Is(err, errNoTLS) {
		return err
	}
	return pgwire.NewError(pgwire.TooManyPending, nil, p.arrivals.grace, p.arrivals.most)
}

func (p *Proxy) noStartupInTime() *pgwire.Error {
	return pgwire.NewError(pgwire.StartupTimeout, nil, p.connectTimeout())
}

// errClientLeft ends a login whose client has disconnected.
var errClientLeft = errors.New("the client left during login")

// failure returns err as the client is sent it. Errors of a login's steps are of type
// *pgwire.Error already; what else ends a login is a shutdown, a timeout, or a broken
// connection.
func (p *Proxy) failure(err error) *pgwire.Error {
	var own *pgwire.Error
	switch {
	case p.ctx.Err() != nil:
		return errShuttingDown
	case errors.As(err, &own):
		return own
	case netconn.IsTimeout(err):
		failed := p.noAnswerBefore(err)
		failed.Hint += "; --connect-timeout is how long to wait"
		return failed
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return p.broken(pgwire.ConnectionClosed, nil)
	default:
		return p.broken(pgwire.ConnectionBroken, err)
	}
}

func (p *Proxy) broken(reason pgwire.Reason, err error) *pgwire.Error {
	failed := pgwire.NewError(reason, err, p.target())
	failed.Hint = cmp.Or(p.viaHint(), failed.Hint)
	return failed
}

// noAnswerBefore returns the error of a server that had not answered when end ended the
// wait for it.
func (p *Proxy) noAnswerBefore(end error) *pgwire.Error {
	failed := pgwire.NewError(pgwire.NoAnswer, end, p.target())
	failed.Hint = cmp.Or(text.Advice(end), p.viaHint(), failed.Hint)
	return failed
}

// viaHint returns what to check where the server is reached through something else; empty
// where it is not.
func (p *Proxy) viaHint() string {
	via := p.via()
	if via == "" {
		return ""
	}
	hint := "check that what listens at " + via + " leads to the database"
	if p.Said != nil {
		hint += "; it has said: " + cmp.Or(p.Said(), "nothing")
	}
	return hint
}

// dialError returns why the server cannot be reached.
func (p *Proxy) dialError(err error) error {
	var dns *net.DNSError
	var socks *socksRefusal
	reason, transient := pgwire.DialFailed, pgwire.Transient
	switch {
	case errors.As(err, &socks):
		reason = pgwire.SOCKSRefused
		if !socks.passes() {
			transient = pgwire.Permanent
		}
	case errors.As(err, &dns):
		reason = pgwire.ResolveFailed
		if dns.IsNotFound {
			transient = pgwire.IfSeenBefore
		}
	case netconn.IsTimeout(err):
		return err
	case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE):
		reason = pgwire.FileDescriptorsUsedUp
	case errors.Is(err, syscall.ECONNREFUSED):
		reason = pgwire.DialRefused
	}
	failed := pgwire.NewError(reason, err, p.target())
	failed.Transient = transient
	if reason == pgwire.DialFailed || reason == pgwire.DialRefused {
		failed.Hint = cmp.Or(text.Advice(err), failed.Hint)
	}
	return failed
}

// handshakeError returns why the server's certificate was not accepted, or why there is no
// TLS.
func (p *Proxy) handshakeError(err error) error {
	var (
		unknown  x509.UnknownAuthorityError
		name     x509.HostnameError
		invalid  x509.CertificateInvalidError
		rejected *tls.CertificateVerificationError
	)
	switch {
	case netconn.IsTimeout(err):
		return err
	case errors.As(err, &name):
		return pgwire.NewError(pgwire.TLSWrongName, err, p.target(), p.TLS.ServerName)
	case errors.As(err, &unknown):
		return pgwire.NewError(pgwire.TLSUntrusted, err, p.target())
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return pgwire.NewError(pgwire.TLSExpired, err, p.target())
	case errors.As(err, &rejected):
		return pgwire.NewError(pgwire.TLSCertificateBad, err, p.target())
	case p.DirectTLS:
		return p.noDirectTLS(err)
	}
	failed := pgwire.NewError(pgwire.TLSFailed, err, p.target())
	if netconn.IsHangup(err) {
		failed.Transient = pgwire.Transient
	}
	return failed
}

// noDirectTLS returns the error of a server that did not take direct TLS. A server before
// PostgreSQL 17 hangs up, as does one that restarts.
func (p *Proxy) noDirectTLS(err error) error {
	failed := pgwire.NewError(pgwire.TLSDirectNotOffered, err, p.target())
	if netconn.IsHangup(err) {
		failed.Transient = pgwire.IfSeenBefore
	}
	return failed
}

// tokenError returns why there is no token for user.
func tokenError(user string, err error) error {
	reason := pgwire.NoToken
	if netconn.IsTimeout(err) {
		reason = pgwire.TokenTimeout
	}
	failed := pgwire.NewError(reason, err, user)
	failed.Hint = text.Advice(err)
	return failed
}

// target names the database, and what it is reached through.
func (p *Proxy) target() string {
	if via := p.via(); via != "" {
		return p.Endpoint + " (via " + via + ")"
	}
	return p.Endpoint
}
