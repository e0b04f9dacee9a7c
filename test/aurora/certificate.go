//go:build unix

package aurora

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"syscall"
	"time"
)

// Certificate describes a server certificate to issue. A client should accept the one that
// the zero value describes.
type Certificate struct {
	// Host is the DNS name in the certificate. Zero: the Cluster's Host.
	Host string
	// OtherCA selects a CA that is not in CAFile.
	OtherCA bool
	// Issuer is the name of the other CA. Zero: one that is not of RDS.
	Issuer string
	// SelfSigned makes the certificate self-signed.
	SelfSigned bool
	// NotAfter is when the certificate expires. Zero: in a day.
	NotAfter time.Time
}

// SetCertificate replaces the server's certificate, for new connections. It returns when
// the server presents the new one. A stopped server presents it after its restart.
func (c *Cluster) SetCertificate(ctx context.Context, certificate Certificate) error {
	if c.path(dataDir) == "" {
		return errors.New("aurora: certificate: not started")
	}
	leaf, err := c.writeCertificate(certificate)
	if err != nil {
		return fmt.Errorf("aurora: certificate: %w", err)
	}
	c.mu.Lock()
	server := c.server
	c.mu.Unlock()
	if !server.alive() {
		return nil
	}
	// pg_ctl reload sends SIGHUP, too.
	if err := server.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return fmt.Errorf("aurora: certificate: %w", err)
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		shown, err := shownCertificate(ctx, c.Addr())
		if err == nil && bytes.Equal(shown, leaf) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("aurora: certificate: the server does not show it: %w", context.Cause(ctx))
		}
	}
}

// writeCertificate writes a new certificate and its key where the server reads them, and
// returns the certificate in DER.
func (c *Cluster) writeCertificate(certificate Certificate) ([]byte, error) {
	c.mu.Lock()
	dir, owner, issuer := c.dir, c.owner, c.authority
	c.mu.Unlock()
	certificate.Host = cmp.Or(certificate.Host, c.host())
	if certificate.OtherCA {
		var err error
		if issuer, err = newAuthority(cmp.Or(certificate.Issuer, "Somebody Else's Root CA")); err != nil {
			return nil, err
		}
	}
	if certificate.SelfSigned {
		issuer = nil
	}
	leaf, key, err := issue(certificate, issuer)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := owner.writeFile(filepath.Join(dir, dataDir, "server.key"), encodePEM("PRIVATE KEY", keyDER)); err != nil {
		return nil, err
	}
	return leaf, owner.writeFile(filepath.Join(dir, dataDir, "server.crt"), encodePEM("CERTIFICATE", leaf))
}

// authority is a certification authority.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := newTemplate(name, time.Now().AddDate(10, 0, 0)) // longer than any certificate that it issues
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &authority{certificate, key}, err
}

func (a *authority) pem() []byte { return encodePEM("CERTIFICATE", a.certificate.Raw) }

// issue returns a new server certificate, in DER, and its key. Without an issuer the
// certificate is self-signed.
func issue(c Certificate, issuer *authority) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template, err := newTemplate(c.Host, c.NotAfter)
	if err != nil {
		return nil, nil, err
	}
	template.DNSNames = []string{c.Host}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if issuer == nil {
		issuer = &authority{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.certificate, key.Public(), issuer.key)
	return der, key, err
}

// newTemplate returns what all certificates have in common. A zero notAfter is a day from
// now.
func newTemplate(name string, notAfter time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if notAfter.IsZero() {
		notAfter = now.Add(24 * time.Hour)
	}
	notBefore := now.Add(-time.Hour)
	if notAfter.Before(now) {
		notBefore = notAfter.Add(-time.Hour)
	}
	if len(name) > 64 {
		name = name[:64] // RFC 5280, ub-common-name; clients check DNSNames
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    notBefore,
		NotAfter:     notAfter,
	}, nil
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// shownCertificate sends an SSLRequest (PostgreSQL manual, "Message Formats") to the server
// at addr and returns the certificate that it presents, in DER.
func shownCertificate(ctx context.Context, addr string) ([]byte, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		return nil, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return nil, err
	}
	if answer[0] != 'S' {
		return nil, errors.New("the server does not offer TLS")
	}
	client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // any certificate is returned
	if err := client.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return client.ConnectionState().PeerCertificates[0].Raw, nil
}
