package pgwire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
)

// A message has the system's words for its cause, and none of the packages between.
func TestCauseText(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"none":               {nil, ""},
		"refused":            {refused, "connection refused"},
		"no such host":       {&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "db", Server: "10.0.0.2:53", IsNotFound: true}}, "no such host (asked 10.0.0.2)"},
		"name server away":   {&net.DNSError{UnwrapErr: refused, Err: refused.Error(), Name: "db", Server: "[fd00::2]:5353"}, "connection refused (asked [fd00::2]:5353)"},
		"name server silent": {&net.DNSError{Err: "i/o timeout", Name: "db", IsTimeout: true}, "no answer in time"},
		"timeout":            {fmt.Errorf("read tcp: %w", os.ErrDeadlineExceeded), ""},
		"context":            {context.DeadlineExceeded, ""},
		"unknown authority":  {&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, "certificate signed by unknown authority"},
		"alert":              {&net.OpError{Op: "remote error", Err: tls.AlertError(40)}, "handshake failure"},
		"no handshake":       {tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, "first record does not look like a TLS handshake"},
		"text for users":     {fmt.Errorf("source: %w", reasonError("sso_expired")), "the session has expired"},
		"any other":          {io.ErrUnexpectedEOF, "unexpected EOF"},
	} {
		if got := causeText(test.err); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
	if err := NewError(DialRefused, refused, "db:5432"); err.Error() != "could not connect to db:5432: connection refused" || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v", err)
	}
}
