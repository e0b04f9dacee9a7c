package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// dialHungUp connects to a peer that closes the connection at once.
func dialHungUp(context.Context, string, string) (net.Conn, error) {
	conn, other := net.Pipe()
	return conn, other.Close()
}

// A DialContext of the caller's, such as a port forward that is starting, has all the time
// there is.
func TestDialContextHasTime(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.expectEnd() })
	var left time.Duration
	p, _ := startProxy(t, ca, s, func(p *Proxy) {
		p.Upstream.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
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

// A probe connects, starts TLS, and does not log in.
func TestUpstreamProbe(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.expectEnd() })
	p, _ := startProxy(t, ca, s, nil)
	probe, err := p.Upstream.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if probe.Address.String() != s.addr() {
		t.Errorf("connected to %v, want %s", probe.Address, s.addr())
	}
	state, err := probe.StartTLS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if state.Version != tls.VersionTLS13 || len(state.VerifiedChains) != 1 {
		t.Errorf("TLS: %+v", state)
	}
	if err := probe.Close(); err != nil {
		t.Error(err)
	}
}

// The errors are those that clients are sent, with the causes underneath.
func TestUpstreamErrors(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.expectEnd() })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	listener.Close()
	p, _ := startProxy(t, ca, s, func(p *Proxy) { p.Upstream.Via = closed })
	_, err = p.Upstream.Probe(t.Context())
	if !errors.Is(err, syscall.ECONNREFUSED) || pgwire.ReasonOf(err) != pgwire.DialRefused || text.Advice(err) == "" {
		t.Errorf("nothing listens: %v", err)
	}

	other, _ := trustedServer(t, func(p *peer) { p.expectEnd() })
	p, _ = startProxy(t, other, s, nil)
	probe, err := p.Upstream.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	_, err = probe.StartTLS(t.Context())
	var unknown x509.UnknownAuthorityError
	var shown *tls.CertificateVerificationError
	if !errors.As(err, &unknown) || !errors.As(err, &shown) || pgwire.ReasonOf(err) != pgwire.TLSUntrusted || text.Advice(err) == "" {
		t.Errorf("certificate of another authority: %v", err)
	}

	tunnel, _ := startProxy(t, ca, s, func(p *Proxy) {
		p.Upstream.Via, p.Upstream.TunnelOutput = "exec:ssh", func() string { return "channel 2: open failed" }
		p.Upstream.DialContext = dialHungUp
	})
	_, err = tunnel.Upstream.Connect(t.Context())
	if failed := tunnel.Upstream.Error(err); failed.Reason != pgwire.ConnectionBroken || failed.Hint != "check that what listens at exec:ssh leads to the database; it has said: channel 2: open failed" {
		t.Errorf("tunnel that leads nowhere: %v; %s", failed, failed.Hint)
	}

	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Upstream.Probe(done); err == nil {
		t.Error("no error with a context that is done")
	}
}
