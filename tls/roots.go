package tls

import (
	"bytes"
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// rdsRoots holds the root certificates of RDS and Aurora in PEM. Operating systems
// do not include them. `make update-ca` updates the file.
//
// Source: https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem, see
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.SSL.html
//
//go:embed global-bundle.pem
var rdsRoots []byte

// Roots returns the roots for verifying a database's certificate: the certificates
// in caFile only or, if caFile is empty, the embedded RDS roots and the system's.
// The certificates of RDS Proxy chain to Amazon's public roots.
//
// Roots fails if caFile cannot be read, has no certificate, or has an invalid one.
func Roots(caFile string) (*x509.CertPool, error) {
	if caFile != "" {
		return rootsFrom(caFile)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		// Without system roots, RDS instances can still be verified.
		pool = x509.NewCertPool()
	}
	pool.AppendCertsFromPEM(rdsRoots)
	return pool, nil
}

// rootsFrom returns the certificates of a PEM file. AppendCertsFromPEM would skip
// invalid ones, so that part of a damaged bundle would be trusted.
func rootsFrom(file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	certs, err := parseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	return pool, nil
}

// parseCertificates returns all certificates of a PEM bundle. It fails if any is invalid, or if
// there are none. Other text and blocks are ignored.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := data; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if begun := bytes.Count(data, []byte("-----BEGIN CERTIFICATE-----")); begun > len(certs) {
		return nil, fmt.Errorf("%d of %d certificates are not valid PEM", begun-len(certs), begun)
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM certificate in it")
	}
	return certs, nil
}
