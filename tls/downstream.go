package tls

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Downstream is the configuration for clients that want TLS. They see the
// certificate that is current when they connect. Sessions are not resumed, as
// PostgreSQL does not either.
func Downstream(current func() *tls.Certificate) *tls.Config {
	return &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return current(), nil
		},
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true,
	}
}

// selfSignedLife is how long a certificate made by SelfSigned is valid. It lives
// as long as the process, which nothing else ends.
const selfSignedLife = 10 * 365 * 24 * time.Hour

// SelfSigned makes a certificate for the given DNS names and IP addresses. It is
// for encryption alone: nobody vouches for it.
func SelfSigned(names ...string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "iamproxy"},
		NotBefore:    time.Now().Add(-time.Hour), // for clocks that are behind
		NotAfter:     time.Now().Add(selfSignedLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// As a root of its own, for clients that are given it (sslrootcert).
		IsCA: true, BasicConstraintsValid: true,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if name != "" {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// Files is a certificate, with those that it leads to behind it, and its key in
// PEM files that may change while it is in use. Load must be called first.
type Files struct {
	Cert, Key string
	// Log hears of each change. It may be nil.
	Log *zap.Logger

	mu        sync.Mutex
	cert, key []byte // as last read, good or bad
	pair      *tls.Certificate
	failing   string // what Log has heard last of files that are no good
}

// Load reads the files. The error names the file that cannot be read, or says
// what is wrong with the two.
func (f *Files) Load() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.load()
}

// Current is the certificate, read again if the files have changed. If what
// stands there now is no certificate with its key, as in the middle of a change,
// it is the last that was.
//
// Contents are compared rather than times of change: those are coarse, and the
// way in which volumes of Kubernetes are swapped does not always move them.
func (f *Files) Current() *tls.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch err := f.load(); {
	case err == nil:
		f.failing = ""
	case err.Error() != f.failing: // once, and not for each client
		f.failing = err.Error()
		f.log().Warn("certificate for clients not read again; the one before stays in use", zap.Error(err))
	}
	return f.pair
}

// load takes what is in the files if it is not what was there before. f.mu is
// held.
func (f *Files) load() error {
	cert, err := os.ReadFile(f.Cert)
	if err != nil {
		return err
	}
	key, err := os.ReadFile(f.Key)
	if err != nil {
		return err
	}
	if bytes.Equal(cert, f.cert) && bytes.Equal(key, f.key) {
		return nil
	}
	f.cert, f.key = cert, key
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", f.Cert, f.Key, err)
	}
	f.pair = &pair
	f.log().Info("certificate for clients read", zap.String("file", f.Cert), zap.Time("not_after", pair.Leaf.NotAfter))
	return nil
}

func (f *Files) log() *zap.Logger {
	if f.Log == nil {
		return zap.NewNop()
	}
	return f.Log
}
