package netconn

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/iamproxy/iamproxy/test/conntest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/iamproxy/iamproxy/proxy/netconn.(*loop).run"))
}

// limit is how long a test waits for what must happen. It expires only in a test that
// fails.
const limit = 2 * time.Minute

// eachIO runs a test with both implementations of I/O, which must behave alike.
func eachIO(t *testing.T, test func(t *testing.T, plain bool)) {
	t.Run("raw", func(t *testing.T) { test(t, false) })
	t.Run("plain", func(t *testing.T) { test(t, true) })
}

// eachTLS runs a test without TLS and with each version of it.
func eachTLS(t *testing.T, test func(t *testing.T, version uint16)) {
	t.Run("no TLS", func(t *testing.T) { test(t, 0) })
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) { test(t, version) })
	}
}

// peer is the other end of a Conn.
type peer struct {
	net.Conn
	tcp *net.TCPConn
}

// reset closes the connection with a RST.
func (p *peer) reset() {
	_ = p.tcp.SetLinger(0)
	p.tcp.Close()
}

// connPair returns a Conn and its peer, with TLS unless version is 0.
func connPair(t *testing.T, plain bool, version uint16) (*Conn, *peer) {
	t.Helper()
	ours, theirs := conntest.TCPPair(t)
	conn := newConn(ours, plain)
	if version == 0 {
		return conn, &peer{Conn: theirs, tcp: theirs}
	}
	server, client := tlsConfigs(t, version)
	secure := tls.Client(theirs, client)
	shaken := make(chan error, 1)
	go func() { shaken <- secure.Handshake() }()
	if err := conn.StartTLS(t.Context(), tls.Server(conn.Socket(), server)); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	return conn, &peer{Conn: secure, tcp: theirs}
}

// tlsConfigs returns configurations of a server and of a client that trusts it.
func tlsConfigs(t *testing.T, version uint16) (server, client *tls.Config) {
	t.Helper()
	s := httptest.NewTLSServer(nil) // for its certificate
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	server = &tls.Config{Certificates: s.TLS.Certificates, MaxVersion: version, SessionTicketsDisabled: true}
	return server, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
}
