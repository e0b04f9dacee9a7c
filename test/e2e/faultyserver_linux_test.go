package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// faultyServer violates the protocol, TLS or both.
type faultyServer struct {
	listener net.Listener

	mu     sync.Mutex
	logins map[string][]login // by user
	raw    []byte             // received in place of TLS, after SSLRequest
}

// login holds what the server received on one connection inside TLS.
type login struct{ passwords []string }

// startFaultyServer starts a server that calls answer after SSLRequest. If answer returns
// true, the TLS handshake follows, and respond is called with the user of the startup packet.
func startFaultyServer(t *testing.T, config *tls.Config, answer func(net.Conn) bool, respond func(user string, c *tlsConn)) *faultyServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &faultyServer{listener: listener, logins: make(map[string][]login)}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { s.serve(conn, config, answer, respond) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		conns.Wait()
	})
	return s
}

func (s *faultyServer) serve(conn net.Conn, config *tls.Config, answer func(net.Conn) bool, respond func(user string, c *tlsConn)) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	if _, err := io.ReadFull(conn, make([]byte, 8)); err != nil {
		return
	}
	if !answer(conn) {
		rest, _ := io.ReadAll(conn)
		s.mu.Lock()
		s.raw = append(s.raw, rest...)
		s.mu.Unlock()
		return
	}
	secure := tls.Server(conn, config)
	startup, err := readStartup(secure)
	if err != nil {
		return
	}
	_, rest, _ := bytes.Cut(startup, []byte("user\x00"))
	user, _, _ := bytes.Cut(rest, []byte{0})
	c := &tlsConn{Conn: secure}
	respond(string(user), c)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins[string(user)] = append(s.logins[string(user)], c.login)
}

func readStartup(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	rest := make([]byte, binary.BigEndian.Uint32(length[:])-4)
	_, err := io.ReadFull(r, rest)
	return rest, err
}

// tlsConn is a connection after the TLS handshake and the startup packet.
type tlsConn struct {
	net.Conn
	login login
}

// send sends messages, given as a type byte and a body without the length.
func (c *tlsConn) send(messages ...string) {
	for _, m := range messages {
		b := binary.BigEndian.AppendUint32([]byte{m[0]}, uint32(len(m)+3))
		_, _ = c.Write(append(b, m[1:]...))
	}
}

// Messages of servers during a login.
const (
	requestCleartext = "R\x00\x00\x00\x03"
	authOK           = "R\x00\x00\x00\x00"
	readyForQuery    = "ZI"
	authFailed       = "ESFATAL\x00VFATAL\x00C28000\x00MPAM authentication failed\x00\x00"
)

// requestPassword requests the password in clear text, and records the answer.
func (c *tlsConn) requestPassword() {
	c.send(requestCleartext)
	var head [5]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return
	}
	password := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	if _, err := io.ReadFull(c, password); err != nil {
		return
	}
	c.login.passwords = append(c.login.passwords, strings.TrimRight(string(password), "\x00"))
}

// discard reads until the end.
func (c *tlsConn) discard() { _, _ = io.Copy(io.Discard, c) }

// testCA issues the certificates of faulty servers.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newTestCA(t *testing.T) testCA {
	t.Helper()
	ca := testCA{file: filepath.Join(t.TempDir(), "ca.pem")}
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca.key, ca.cert = ca.make(t, template)
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
	if err := os.WriteFile(ca.file, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return ca
}

// issue returns a valid certificate to which change has been applied.
func (ca testCA) issue(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{DNSNames: []string{aurora.DefaultHost}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	change(template)
	key, cert := ca.make(t, template)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func (ca testCA) make(t *testing.T, template *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: aurora.DefaultHost}
	template.NotBefore = time.Now().Add(-48 * time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	issuer, signer := ca.cert, ca.key
	if issuer == nil {
		issuer, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}
