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

// liar is a server that does not do what it ought to.
type liar struct {
	listener net.Listener

	mu     sync.Mutex
	logins map[string][]login // by user
	raw    []byte             // what came before TLS, or in its place
}

// login is what one connection told the liar inside TLS.
type login struct{ passwords []string }

// startLiar has answer say what it likes in the place of the answer to SSLRequest; if it
// returns true, TLS by config follows, and say goes on inside it. It may ask for passwords.
func startLiar(t *testing.T, config *tls.Config, answer func(net.Conn) bool, say func(user string, c *confided)) *liar {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{listener: listener, logins: make(map[string][]login)}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { l.serve(conn, config, answer, say) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		conns.Wait()
	})
	return l
}

func (l *liar) serve(conn net.Conn, config *tls.Config, answer func(net.Conn) bool, say func(user string, c *confided)) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	if _, err := io.ReadFull(conn, make([]byte, 8)); err != nil {
		return
	}
	if !answer(conn) {
		rest, _ := io.ReadAll(conn)
		l.mu.Lock()
		l.raw = append(l.raw, rest...)
		l.mu.Unlock()
		return
	}
	secure := tls.Server(conn, config)
	startup, err := readStartup(secure)
	if err != nil {
		return
	}
	_, rest, _ := bytes.Cut(startup, []byte("user\x00"))
	user, _, _ := bytes.Cut(rest, []byte{0})
	c := &confided{Conn: secure}
	say(string(user), c)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logins[string(user)] = append(l.logins[string(user)], c.login)
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

// confided is the connection on which somebody trusts the liar.
type confided struct {
	net.Conn
	login login
}

// say sends messages, each with its type first and without a length.
func (c *confided) say(messages ...string) {
	for _, m := range messages {
		b := binary.BigEndian.AppendUint32([]byte{m[0]}, uint32(len(m)+3))
		_, _ = c.Write(append(b, m[1:]...))
	}
}

// What servers say in a login.
const (
	asksForPassword = "R\x00\x00\x00\x03"
	letsIn          = "R\x00\x00\x00\x00"
	isReady         = "ZI"
	saysNo          = "ESFATAL\x00VFATAL\x00C28000\x00MPAM authentication failed\x00\x00"
)

// asks asks for the password, and keeps what comes.
func (c *confided) asks() {
	c.say(asksForPassword)
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

// stays reads until nothing comes any more.
func (c *confided) stays() { _, _ = io.Copy(io.Discard, c) }

// liars is the CA that vouches for liars.
type liars struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newLiars(t *testing.T) liars {
	t.Helper()
	ca := liars{file: filepath.Join(t.TempDir(), "ca.pem")}
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca.key, ca.cert = ca.make(t, template)
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
	if err := os.WriteFile(ca.file, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return ca
}

// issue has a certificate that is good but for what change does to it.
func (ca liars) issue(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{DNSNames: []string{aurora.DefaultHost}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	change(template)
	key, cert := ca.make(t, template)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func (ca liars) make(t *testing.T, template *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
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
