package pgwire

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"syscall"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// causeText returns the text of an error underneath a message: the system's words, without those
// of the packages between. An error with a hint has a text for users. It is empty for nil and for
// a timeout, which the message itself states.
func causeText(err error) string {
	var (
		advised interface {
			error
			Advice() string
		}
		dns         *net.DNSError
		errno       syscall.Errno
		certificate *tls.CertificateVerificationError
		alert       tls.AlertError
	)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &advised):
		return advised.Error()
	case errors.As(err, &dns):
		return dnsText(dns)
	case errors.As(err, &errno):
		return errno.Error()
	case netconn.IsTimeout(err):
		return ""
	case errors.As(err, &certificate):
		return strings.TrimPrefix(certificate.Err.Error(), "x509: ")
	case errors.As(err, &alert):
		return strings.TrimPrefix(alert.Error(), "tls: ")
	default:
		return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "tls: "), "x509: ")
	}
}

// dnsText returns why a name was not resolved, and which name server was asked.
func dnsText(err *net.DNSError) string {
	cause := err.Err
	var errno syscall.Errno
	switch {
	case err.IsTimeout:
		cause = "no answer in time"
	case errors.As(err.Unwrap(), &errno):
		cause = errno.Error()
	}
	if err.Server == "" {
		return cause
	}
	server := err.Server
	if host, port, splitErr := net.SplitHostPort(server); splitErr == nil && port == "53" {
		server = host
	}
	return cause + " (asked " + server + ")"
}
