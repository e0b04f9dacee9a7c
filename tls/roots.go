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

// rdsRoots are the roots that sign the certificates of RDS and Aurora
// instances; `make update-ca` renews the file. No operating system ships them.
//
// Source: https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem, see
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.SSL.html
//
//go:embed global-bundle.pem
var rdsRoots []byte

// Roots are the certificates that a database's certificate may lead to: those
// in caFile and no others or, when caFile is empty, the RDS roots built in
// together with the system's (RDS Proxy's certificates lead to Amazon's public
// roots).
//
// The error names caFile and says whether it could not be read, holds no
// certificate, or holds a broken one.
func Roots(caFile string) (*x509.CertPool, error) {
	if caFile != "" {
		return rootsFrom(caFile)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		// A machine without roots of its own still reaches RDS instances.
		pool = x509.NewCertPool()
	}
	pool.AppendCertsFromPEM(rdsRoots)
	return pool, nil
}

// rootsFrom is stricter than AppendCertsFromPEM, which passes over what it
// cannot parse: a bundle that is broken in the middle would be trusted in part.
func rootsFrom(file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	certs, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	return pool, nil
}

func parse(data []byte) ([]*x509.Certificate, error) {
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
