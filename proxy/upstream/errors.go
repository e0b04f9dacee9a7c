package upstream

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"syscall"

	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	roots "github.com/iamproxy/iamproxy/tls"
)

// AsError returns err of Connect, Login or CheckWritable as an *pgwire.Error: unless it is one
// already, the server did not answer in time, or the connection broke.
func (d *Dialer) AsError(err error) *pgwire.Error {
	var own *pgwire.Error
	switch {
	case errors.As(err, &own):
		return own
	case netconn.IsTimeout(err):
		return d.NoAnswerError(err)
	case netconn.IsClosed(err):
		return d.brokenError(pgwire.ConnectionClosed, nil)
	default:
		return d.brokenError(pgwire.ConnectionBroken, err)
	}
}

// NoAnswerError returns the error of a server that had not answered when end ended the wait for
// it.
func (d *Dialer) NoAnswerError(end error) *pgwire.Error {
	failed := pgwire.NewError(pgwire.NoAnswer, end, d.Name())
	failed.Hint = cmp.Or(text.Advice(end), d.viaHint(), failed.Hint)
	return failed
}

func (d *Dialer) brokenError(reason pgwire.Reason, err error) *pgwire.Error {
	failed := pgwire.NewError(reason, err, d.Name())
	failed.Hint = cmp.Or(d.viaHint(), failed.Hint)
	return failed
}

// viaHint returns what to check where the server is reached through something else.
func (d *Dialer) viaHint() string {
	via := d.via()
	if via == "" {
		return ""
	}
	hint := "check that what listens at " + via + " leads to the database"
	if d.TunnelOutput != nil {
		hint += "; it has said: " + cmp.Or(d.TunnelOutput(), "nothing")
	}
	return hint
}

// dialError returns why the server could not be dialed: an *pgwire.Error or a timeout.
func (d *Dialer) dialError(err error) error {
	var dns *net.DNSError
	var socks *socksError
	reason, transient := pgwire.DialFailed, pgwire.Transient
	switch {
	case errors.As(err, &socks):
		reason = pgwire.SOCKSRefused
		if !socks.isTransient() {
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
	failed := pgwire.NewError(reason, err, d.Name())
	failed.Transience = transient
	if reason == pgwire.DialFailed || reason == pgwire.DialRefused {
		failed.Hint = cmp.Or(text.Advice(err), failed.Hint)
	}
	return failed
}

// handshakeError returns why the server's certificate was not accepted, or why there is no
// TLS: an *pgwire.Error or a timeout.
func (d *Dialer) handshakeError(err error) error {
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
		return pgwire.NewError(pgwire.TLSWrongName, err, d.Name(), d.TLS.ServerName)
	case errors.As(err, &unknown):
		failed := pgwire.NewError(pgwire.TLSUntrusted, err, d.Name())
		if errors.As(err, &rejected) {
			failed.Hint = roots.UntrustedHint(rejected.UnverifiedCertificates[0])
		}
		return failed
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return pgwire.NewError(pgwire.TLSExpired, err, d.Name())
	case errors.As(err, &rejected):
		return pgwire.NewError(pgwire.TLSCertificateBad, err, d.Name())
	case d.DirectTLS:
		return d.directTLSError(err)
	}
	failed := pgwire.NewError(pgwire.TLSFailed, err, d.Name())
	if netconn.IsHangup(err) {
		failed.Transience = pgwire.Transient
	}
	return failed
}

// directTLSError returns the error of a server that did not accept direct TLS. A server
// before PostgreSQL 17 hangs up, as does one that restarts.
func (d *Dialer) directTLSError(err error) error {
	failed := pgwire.NewError(pgwire.TLSDirectNotOffered, err, d.Name())
	if netconn.IsHangup(err) {
		failed.Transience = pgwire.IfSeenBefore
	}
	return failed
}
