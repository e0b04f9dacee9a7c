// Package clientcert issues client certificates for tests.
package clientcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// The files of Write.
const (
	CertFile = "client.pem"
	KeyFile  = "client.key"
	// DERKeyFile has the key in the format that pgjdbc reads.
	DERKeyFile = KeyFile + ".pk8"
)

// Pair is a certificate and its key.
type Pair struct {
	Certificate *x509.Certificate
	Key         *ecdsa.PrivateKey
}

// Named returns a template whose common name is name.
func Named(name string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}}
}

// CA returns a template of a certification authority.
func CA(name string) *x509.Certificate {
	template := Named(name)
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	return template
}

// Issue returns a certificate as in template, issued by ca, or by itself if ca is nil. It is
// valid for a day unless template has dates.
func Issue(ca *Pair, template *x509.Certificate) (*Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	}
	if ca == nil {
		ca = &Pair{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Certificate, key.Public(), ca.Key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &Pair{certificate, key}, err
}

// Write writes the certificate, followed by those of intermediates, and the key to dir.
func (p *Pair) Write(dir string, intermediates ...*Pair) error {
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		return err
	}
	for file, content := range map[string][]byte{
		CertFile:   Encode(append([]*Pair{p}, intermediates...)...),
		KeyFile:    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		DERKeyFile: der,
	} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Encode returns the certificates in PEM format.
func Encode(pairs ...*Pair) (b []byte) {
	for _, p := range pairs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate.Raw})...)
	}
	return b
}
