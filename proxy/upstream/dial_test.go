package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/test/conntest"
	"github.com/iamproxy/iamproxy/test/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m, netconn.SetPlainIO) }

// startServer starts a server that accepts TLS and then waits for the end of the
// connection. It returns a Dialer for it.
func startServer(t *testing.T) *Dialer {
	t.Helper()
	https := httptest.NewTLSServer(nil) // for its certificate
	https.Close()
	roots := x509.NewCertPool()
	roots.AddCert(https.Certificate())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		running.Wait()
	})
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				if packet, err := pgwire.ReadStartupPacket(conn); err != nil || packet.Code != pgwire.SSLRequest {
					return
				}
				_, _ = conn.Write([]byte{'S'})
				secure := tls.Server(conn, &tls.Config{Certificates: https.TLS.Certificates})
				if n, err := secure.Read(make([]byte, 1)); n > 0 {
					t.Errorf("read %d bytes, %v", n, err)
				}
			})
		}
	})
	return &Dialer{Endpoint: "example.com:5432", Via: listener.Addr().String(), TLS: &tls.Config{ServerName: "example.com", RootCAs: roots}}
}

func TestConnect(t *testing.T) {
	d := startServer(t)
	conn, err := d.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.Address != d.Via || !conn.Encrypted() || conn.Timings.Dial <= 0 || conn.Timings.TLS <= 0 {
		t.Errorf("connected to %s, %+v", conn.Address, conn.Timings)
	}
}

// DialContext, such as of a port forward that starts, has all the time until the deadline.
func TestDialContextDeadline(t *testing.T) {
	d := startServer(t)
	var left time.Duration
	d.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		deadline, _ := ctx.Deadline()
		left = time.Until(deadline)
		return net.Dial(network, address)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	conn, err := d.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if left < time.Minute {
		t.Errorf("%v left", left)
	}
}

// A server that accepts and stays silent ends Connect after Timeout.
func TestConnectTimeout(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{0: 10 * time.Second, 16 * time.Second: 16 * time.Second, time.Hour: 30 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			silent, server := net.Pipe()
			defer server.Close()
			go func() { _, _ = io.Copy(io.Discard, server) }()
			d := &Dialer{Endpoint: "example.com:5432", Timeout: timeout, TLS: &tls.Config{ServerName: "example.com"}}
			d.DialContext = func(context.Context, string, string) (net.Conn, error) { return silent, nil }
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			began := time.Now()
			_, err := d.Connect(ctx)
			if took := time.Since(began); took != want || d.AsError(err).Reason != pgwire.NoAnswer {
				t.Errorf("Timeout %v: %v after %v, want %v", timeout, err, took, want)
			}
		})
	}
}

// A probe connects, starts TLS, and does not log in.
func TestProbe(t *testing.T) {
	d := startServer(t)
	probe, err := d.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if probe.Address.String() != d.Via {
		t.Errorf("connected to %v, want %s", probe.Address, d.Via)
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

func TestDialRefused(t *testing.T) {
	closed := conntest.ClosedAddress(t)
	_, err := (&Dialer{Endpoint: "example.com:5432", Via: closed}).Probe(t.Context())
	if !errors.Is(err, syscall.ECONNREFUSED) || pgwire.ReasonOf(err) != pgwire.DialRefused || text.Advice(err) == "" {
		t.Errorf("got %v", err)
	}
}

// The cause of an error is wrapped in it.
func TestUntrustedCertificate(t *testing.T) {
	d := startServer(t)
	d.TLS.RootCAs = x509.NewCertPool()
	probe, err := d.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	_, err = probe.StartTLS(t.Context())
	var unknown x509.UnknownAuthorityError
	var certificate *tls.CertificateVerificationError
	if !errors.As(err, &unknown) || !errors.As(err, &certificate) || pgwire.ReasonOf(err) != pgwire.TLSUntrusted || text.Advice(err) == "" {
		t.Errorf("got %v", err)
	}
}

// A server whose certificate none of the first roots issued is dialed again with all roots, and
// later servers are dialed with these at once.
func TestAllRoots(t *testing.T) {
	for name, first := range map[string]*x509.CertPool{"others": x509.NewCertPool(), "none": nil} {
		t.Run(name, func(t *testing.T) {
			d := startServer(t)
			issuer := d.TLS.RootCAs
			d.TLS.RootCAs, d.AllRoots = first, func() *x509.CertPool { return issuer }
			dials := 0
			d.DialContext = func(_ context.Context, network, address string) (net.Conn, error) {
				dials++
				return net.Dial(network, address)
			}
			for range 2 {
				conn, err := d.Connect(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				conn.Close()
			}
			if want := 2; first == nil && dials != want || first != nil && dials != want+1 {
				t.Errorf("dialed %d times for 2 connections", dials)
			}
		})
	}
}

// A probe verifies the server with all roots.
func TestProbeWithAllRoots(t *testing.T) {
	d := startServer(t)
	issuer := d.TLS.RootCAs
	d.TLS.RootCAs, d.AllRoots = x509.NewCertPool(), func() *x509.CertPool { return issuer }
	probe, err := d.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	if _, err := probe.StartTLS(t.Context()); err != nil {
		t.Error(err)
	}
}

// A server whose certificate none of all roots issued is not trusted.
func TestNoneOfAllRoots(t *testing.T) {
	d := startServer(t)
	d.TLS.RootCAs, d.AllRoots = x509.NewCertPool(), x509.NewCertPool
	if conn, err := d.Connect(t.Context()); pgwire.ReasonOf(err) != pgwire.TLSUntrusted {
		t.Errorf("got %v, %v", conn, err)
	}
}

// The hint has the last output of a tunnel process whose connections break.
func TestTunnelOutput(t *testing.T) {
	d := &Dialer{
		Endpoint:     "example.com:5432",
		Via:          "exec:ssh",
		TunnelOutput: func() string { return "channel 2: open failed" },
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			conn, other := net.Pipe()
			return conn, other.Close()
		},
	}
	_, err := d.Connect(t.Context())
	if failed := d.AsError(err); !errors.Is(err, io.ErrClosedPipe) || failed.Reason != pgwire.ConnectionBroken || !strings.HasSuffix(failed.Hint, "channel 2: open failed") {
		t.Errorf("got %v; %s", failed, failed.Hint)
	}
}

func TestConnectCanceled(t *testing.T) {
	d := startServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Probe(ctx); err == nil {
		t.Error("no error")
	}
}
