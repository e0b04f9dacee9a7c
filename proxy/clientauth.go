package proxy

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// ClientAuth holds the requirements for clients over TCP. Its zero value requires
// nothing. It does not apply to unix sockets: libpq uses no TLS there, and the mode of the socket
// limits access. Nor does it apply to a CancelRequest, which the cancel key authorizes, and which
// clients send without TLS.
type ClientAuth struct {
	// RequireTLS rejects clients without TLS.
	RequireTLS bool
	// Roots returns the roots of client certificates. A client without a valid certificate is
	// rejected. If nil, no certificate is requested.
	Roots func() *x509.CertPool
	// Users returns the database users that a certificate names. A login as another user is
	// rejected. If nil, any user may log in.
	Users func(*x509.Certificate) []string
}

// maxCertificateText limits what an error and the log show of a certificate, in bytes.
const maxCertificateText = 200

// tlsConfig returns the configuration of a client's TLS. The handshake accepts any certificate,
// so that check can send the client an error: an alert of TLS does not say what is wrong, and in
// TLS 1.3 it arrives after the client has completed its handshake.
func (a *ClientAuth) tlsConfig(config *tls.Config) *tls.Config {
	if a.Roots == nil {
		return config
	}
	config = config.Clone()
	config.ClientAuth, config.ClientCAs = tls.RequestClientCert, a.Roots()
	return config
}

// check returns why a client may not log in, whatever the user.
func (a *ClientAuth) check(s *session) error {
	state, encrypted := s.client.ConnectionState()
	switch {
	case !s.overTCP():
		return nil
	case !encrypted && (a.RequireTLS || a.Roots != nil):
		return pgwire.NewError(pgwire.ClientTLSRequired, nil)
	case a.Roots == nil:
		return nil
	case len(state.PeerCertificates) == 0:
		return pgwire.NewError(pgwire.ClientCertMissing, nil)
	}
	if err := verifyCertificate(state.PeerCertificates, a.Roots()); err != nil {
		failed := pgwire.NewError(pgwire.ClientCertInvalid, errors.New(truncate(err.Error(), maxCertificateText)), certificateName(state.PeerCertificates[0]))
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			failed.Hint = "Issue a new certificate for the client. If its dates are right, correct the clock of iamproxy's host."
		}
		return failed
	}
	return nil
}

// checkUser returns why a client that check accepts may not log in as the session's user.
func (a *ClientAuth) checkUser(s *session) error {
	if a.Users == nil || !s.overTCP() {
		return nil
	}
	certificate := s.clientCertificate()
	if certificate != nil && slices.Contains(a.Users(certificate), s.user) {
		return nil
	}
	failed := pgwire.NewError(pgwire.ClientCertUser, nil, certificateName(certificate), s.user)
	if s.proxy.User != "" { // the client cannot choose
		failed.Hint = "Use a certificate that names this user, which --user sets."
	}
	return failed
}

// verifyCertificate verifies a chain, leaf first, as crypto/tls does.
func verifyCertificate(chain []*x509.Certificate, roots *x509.CertPool) error {
	intermediates := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		intermediates.AddCert(certificate)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   time.Now(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

// overTCP reports whether the client uses TCP, and not a unix socket.
func (s *session) overTCP() bool {
	_, unix := s.client.Socket().NetConn().(*net.UnixConn)
	return !unix
}

// clientCertificate returns the client's certificate, or nil if it has none.
func (s *session) clientCertificate() *x509.Certificate {
	if state, _ := s.client.ConnectionState(); len(state.PeerCertificates) > 0 {
		return state.PeerCertificates[0]
	}
	return nil
}

// certificateName returns the name of a certificate for errors and the log: its subject, or
// else its first alternative name.
func certificateName(c *x509.Certificate) string {
	if c == nil {
		return ""
	}
	name := c.Subject.String()
	switch {
	case name != "":
	case len(c.DNSNames) > 0:
		name = c.DNSNames[0]
	case len(c.EmailAddresses) > 0:
		name = c.EmailAddresses[0]
	case len(c.URIs) > 0:
		name = c.URIs[0].String()
	}
	return truncate(cmp.Or(name, "serial number "+c.SerialNumber.Text(16)), maxCertificateText)
}
