package upstream

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"strings"
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
		return d.newError(pgwire.ConnectionClosed, nil, d.Name())
	default:
		return d.newError(pgwire.ConnectionBroken, err, d.Name())
	}
}

// NoAnswerError returns the error of a server that had not answered when end ended the wait for
// it.
func (d *Dialer) NoAnswerError(end error) *pgwire.Error {
	return d.newError(pgwire.NoAnswer, end, d.Name())
}

// newError returns the error of a reason with the hint for this way to the server.
func (d *Dialer) newError(reason pgwire.Reason, err error, args ...any) *pgwire.Error {
	failed := pgwire.NewError(reason, err, args...)
	failed.Hint = cmp.Or(text.Advice(err), d.hint(reason, err), failed.Hint)
	return failed
}

// dialError returns why the server could not be dialed: an *pgwire.Error or a timeout. DialContext
// may return an *pgwire.Error itself.
func (d *Dialer) dialError(err error) error {
	var own *pgwire.Error
	var dns *net.DNSError
	var socks *socksError
	reason, transient, name := pgwire.DialFailed, pgwire.Transient, d.dialedName(err)
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &socks):
		if !socks.isTransient() {
			reason, transient = pgwire.SOCKSRefused, pgwire.Permanent
		}
	case errors.As(err, &dns):
		reason, name = pgwire.ResolveFailed, d.dialedHost()
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
	failed := d.newError(reason, err, name)
	failed.Transience = transient
	return failed
}

// dialedName returns the database's name in messages, with the address that was dialed for it.
func (d *Dialer) dialedName(err error) string {
	address := dialedAddr(err)
	if d.via() != "" || !address.IsValid() || strings.Contains(d.Endpoint, address.String()) {
		return d.Name()
	}
	return d.Endpoint + " (" + address.String() + ")"
}

// dialedHost returns the host whose name is resolved here.
func (d *Dialer) dialedHost() string {
	address := d.address()
	if d.SOCKS != nil {
		address = d.SOCKS.Address
	}
	host, _, _ := net.SplitHostPort(address)
	return host
}

// dialedAddr returns the address to which a dial failed with err. It is invalid if err is not
// that of a dial.
func dialedAddr(err error) netip.Addr {
	var dial *net.OpError
	if !errors.As(err, &dial) || dial.Op != "dial" {
		return netip.Addr{}
	}
	tcp, ok := dial.Addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}

// handshakeError returns why the server's certificate was not accepted, or why there is no
// TLS: an *pgwire.Error, a timeout, or that of a connection that broke.
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
		return d.newError(pgwire.TLSWrongName, err, d.Name(), d.TLS.ServerName)
	case errors.As(err, &unknown):
		failed := d.newError(pgwire.TLSUntrusted, err, d.Name())
		if errors.As(err, &rejected) {
			failed.Hint = roots.UntrustedHint(rejected.UnverifiedCertificates[0])
		}
		return failed
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return d.newError(pgwire.TLSExpired, err, d.Name())
	case errors.As(err, &rejected):
		return d.newError(pgwire.TLSCertificateBad, err, d.Name())
	case d.DirectTLS:
		return d.directTLSError(err)
	case netconn.IsHangup(err):
		return err
	}
	return d.newError(pgwire.TLSFailed, err, d.Name())
}

// directTLSError returns the error of a server that did not accept direct TLS. A server
// before PostgreSQL 17 hangs up, as does one that restarts.
func (d *Dialer) directTLSError(err error) error {
	failed := d.newError(pgwire.TLSDirectNotOffered, err, d.Name())
	if netconn.IsHangup(err) {
		failed.Transience = pgwire.IfSeenBefore
	}
	return failed
}
