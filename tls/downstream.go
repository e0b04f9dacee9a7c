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

// Downstream returns the configuration for connections from clients. It calls
// current for the certificate of each connection. As in PostgreSQL, sessions are
// not resumed.
func Downstream(current func() *tls.Certificate) *tls.Config {
	return &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return current(), nil
		},
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true,
	}
}

// selfSignedLife is the validity of a self-signed certificate. The certificate is
// not renewed while the process runs.
const selfSignedLife = 10 * 365 * 24 * time.Hour

// SelfSigned returns a new self-signed certificate for the given DNS names and IP
// addresses. It provides encryption, but no authentication.
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
		NotBefore:    time.Now().Add(-time.Hour), // for clients whose clocks are behind
		NotAfter:     time.Now().Add(selfSignedLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// Clients may use it as their root (sslrootcert).
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

// Files provides a certificate from PEM files that may change at any time: a
// certificate chain, leaf first, and its key. Load must be called first.
type Files struct {
	Cert, Key string
	// Log receives each change, and failures to read one. It may be nil.
	Log *zap.Logger

	mu        sync.Mutex
	cert, key []byte // as last read, valid or not
	pair      *tls.Certificate
	failing   string // last error that was logged
}

// Load reads the files. It fails if one cannot be read, or if they do not contain a
// certificate and its key.
func (f *Files) Load() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.load()
}

// Current returns the certificate. If the files have changed, it reads them again.
// If they are not valid now, for example in the middle of a change, it returns the
// last valid certificate.
//
// Current compares contents and not modification times, which are coarse and may
// not change when Kubernetes updates a volume.
func (f *Files) Current() *tls.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch err := f.load(); {
	case err == nil:
		f.failing = ""
	case err.Error() != f.failing: // log it once, not for each client
		f.failing = err.Error()
		f.log().Warn("could not reload the certificate for clients; keeping the previous one", zap.Error(err))
	}
	return f.pair
}

// load reads the files and replaces the certificate if they have changed. f.mu must
// be held.
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
	f.log().Info("certificate for clients loaded", zap.String("file", f.Cert), zap.Time("not_after", pair.Leaf.NotAfter))
	return nil
}

func (f *Files) log() *zap.Logger {
	if f.Log == nil {
		return zap.NewNop()
	}
	return f.Log
}
