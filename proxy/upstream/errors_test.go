package upstream

import (
	"crypto/x509"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// An error carries whether another attempt may succeed.
func TestTransience(t *testing.T) {
	d, direct := &Dialer{}, &Dialer{DirectTLS: true}
	for name, test := range map[string]struct {
		err  error
		want pgwire.Transience
	}{
		"connection refused":      {d.dialError(syscall.ECONNREFUSED), pgwire.Transient},
		"no such name":            {d.dialError(&net.DNSError{IsNotFound: true}), pgwire.IfSeenBefore},
		"name server fails":       {d.dialError(&net.DNSError{IsTemporary: true}), pgwire.Transient},
		"no direct TLS":           {direct.handshakeError(io.EOF), pgwire.IfSeenBefore},
		"certificate not trusted": {d.handshakeError(x509.UnknownAuthorityError{}), pgwire.Permanent},
		"other password":          {pgwire.NewError(pgwire.PasswordRequested, nil), pgwire.Permanent},
	} {
		t.Run(name, func(t *testing.T) {
			var own *pgwire.Error
			if !errors.As(test.err, &own) || own.Transience != test.want {
				t.Errorf("got %v, want %v", test.err, test.want)
			}
		})
	}
}
