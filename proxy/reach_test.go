package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/internal/wording"
)

// It goes as far as TLS, and nobody logs in.
func TestReach(t *testing.T) {
	ca, s := good(t, func(p *peer) { p.expectEnd() })
	p, _ := start(t, ca, s, nil)
	reached, err := p.Reach(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if reached.Address.String() != s.addr() {
		t.Errorf("reached %v, want %s", reached.Address, s.addr())
	}
	conn, err := reached.StartTLS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if state := conn.ConnectionState(); state.Version != tls.VersionTLS13 || len(state.VerifiedChains) != 1 {
		t.Errorf("TLS: %+v", state)
	}
	if err := reached.Close(); err != nil {
		t.Error(err)
	}
}

// The errors are what clients are told, and what is underneath.
func TestReachFailures(t *testing.T) {
	ca, s := good(t, func(p *peer) { p.expectEnd() })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	listener.Close()
	p, _ := start(t, ca, s, func(p *Proxy) { p.Via = closed })
	_, err = p.Reach(t.Context())
	if !errors.Is(err, syscall.ECONNREFUSED) || !strings.HasPrefix(err.Error(), "cannot reach ") || wording.Advice(err) == "" {
		t.Errorf("where nothing listens: %v", err)
	}

	other, _ := good(t, func(p *peer) { p.expectEnd() })
	p, _ = start(t, other, s, nil)
	reached, err := p.Reach(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reached.Close()
	_, err = reached.StartTLS(t.Context())
	var unknown x509.UnknownAuthorityError
	var shown *tls.CertificateVerificationError
	if !errors.As(err, &unknown) || !errors.As(err, &shown) || !strings.Contains(err.Error(), "not trusted") || wording.Advice(err) == "" {
		t.Errorf("a certificate of somebody else's: %v", err)
	}

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Reach(gone); err == nil {
		t.Error("it did not heed its context")
	}
}
