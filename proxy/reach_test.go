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
	"time"

	"github.com/iamproxy/iamproxy/internal/text"
)

// dialHungUp connects to somebody who hangs up.
func dialHungUp(context.Context, string, string) (net.Conn, error) {
	conn, other := net.Pipe()
	return conn, other.Close()
}

// Who dials, as by a port forward that is still starting, has all the time that there is.
func TestDialHasTime(t *testing.T) {
	ca, s := good(t, func(p *peer) { p.expectEnd() })
	var left time.Duration
	p, _ := start(t, ca, s, func(p *Proxy) {
		p.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			deadline, _ := ctx.Deadline()
			left = time.Until(deadline)
			return net.Dial(network, s.addr())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if err := p.Probe(ctx); err != nil || left < time.Minute {
		t.Errorf("%v left, %v", left, err)
	}
}

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
	if !errors.Is(err, syscall.ECONNREFUSED) || !strings.HasPrefix(err.Error(), "cannot reach ") || text.Advice(err) == "" {
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
	if !errors.As(err, &unknown) || !errors.As(err, &shown) || !strings.Contains(err.Error(), "not trusted") || text.Advice(err) == "" {
		t.Errorf("a certificate of somebody else's: %v", err)
	}

	barred, _ := start(t, ca, s, func(p *Proxy) {
		p.Via, p.Said = "exec:ssh", func() string { return "channel 2: open failed" }
		p.Dial = dialHungUp
	})
	if _, err := barred.Connect(t.Context()); err == nil || !strings.HasSuffix(text.Advice(err), "; it has said: channel 2: open failed") {
		t.Errorf("by a port forward that leads nowhere: %v; %s", err, text.Advice(err))
	}

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Reach(gone); err == nil {
		t.Error("it did not heed its context")
	}
}
