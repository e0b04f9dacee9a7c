package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// A resumed TLS session has its certificate verified again.
func TestClientCertificateOfResumedSession(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	other := newAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			var roots atomic.Pointer[x509.CertPool]
			roots.Store(ca.pool())
			p, address := startProxy(t, ca, s, func(p *Proxy) {
				withClientTLS(t, ca)(p)
				p.ClientTLS.SetSessionTicketKeys([][32]byte{{1}})
				p.ClientAuth.Roots = roots.Load
			})
			config := &tls.Config{
				ServerName: "localhost", RootCAs: ca.pool(), MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1),
				Certificates: []tls.Certificate{ca.issue(t, "alice", time.Time{})},
			}
			connect := func(resumed bool) *peer {
				client := dial(t, address)
				client.send(pgwire.Encode(&pgproto3.SSLRequest{}))
				client.expect([]byte{'S'})
				secure := tls.Client(client.raw, config)
				if err := secure.Handshake(); err != nil {
					t.Fatal(err)
				}
				if secure.ConnectionState().DidResume != resumed {
					t.Fatalf("resumed: %t", !resumed)
				}
				client.Conn = secure
				return client
			}
			connect(false).openSession()
			connect(true).openSession()
			roots.Store(other.pool())
			client := connect(true)
			client.send(ordinaryStartup)
			if e := client.expectError(); e.Code != pgwire.InvalidAuthorization {
				t.Errorf("got %+v", e)
			}
			p.expectReason(t, pgwire.ClientCertInvalid)
		})
	}
}

// Clients of a unix socket need no TLS and no certificate.
func TestClientAuthAtUnixSocket(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no unix sockets on Windows")
	}
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	p, _ := startProxy(t, ca, s, func(p *Proxy) {
		withClientTLS(t, ca)(p)
		p.ClientAuth = ClientAuth{RequireTLS: true, Roots: ca.pool, Users: func(*x509.Certificate) []string { return nil }}
	})
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.Serve(listener) }()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	(&peer{Conn: conn, t: t, raw: conn}).openSession()
}
