package tls

import (
	"bytes"
	"crypto/x509"
	"embed"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
)

// rdsRoots holds the root certificates of RDS and Aurora in PEM, in a file for each
// partition. Operating systems do not include them. `make update-ca` updates the files from
// Bundles.
//
//go:embed rds/*.pem
var rdsRoots embed.FS

// Roots are the roots for verifying a database's certificate: those of a file, or the embedded
// RDS roots and the system's, as in the zero value. The certificates of RDS Proxy chain to
// Amazon's public roots.
type Roots struct{ file *x509.CertPool }

// LoadRoots returns the certificates in caFile or, if it is empty, the zero Roots. It fails if
// caFile cannot be read, has no certificate, or has an invalid one.
func LoadRoots(caFile string) (Roots, error) {
	if caFile == "" {
		return Roots{}, nil
	}
	pool, err := rootsFrom(caFile)
	return Roots{pool}, err
}

// Of returns the embedded roots of a region, and a function that returns all roots. The first
// are nil if the region has none. The function is nil if the roots are those of a file, which
// are then the first.
//
// All roots are hundreds of certificates. Parsing them takes as long as the rest of the start.
func (r Roots) Of(region string) (first *x509.CertPool, all func() *x509.CertPool) {
	if r.file != nil {
		return r.file, nil
	}
	return embeddedOf(region), allRoots
}

// allRoots returns the embedded roots and those of the system.
var allRoots = sync.OnceValue(func() *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err != nil {
		// Without system roots, RDS instances can still be verified.
		pool = x509.NewCertPool()
	}
	for _, file := range embedded() {
		pool.AppendCertsFromPEM(file)
	}
	return pool
})

// embeddedOf returns the embedded roots of a region, or nil if there are none. It parses no
// others.
func embeddedOf(region string) *x509.CertPool {
	var pool *x509.CertPool
	name := []byte("Amazon RDS " + region + " ") // in the subject, see regionOfIssuer
	for _, rest := range embedded() {
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if !bytes.Contains(block.Bytes, name) {
				continue
			}
			if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
				if pool == nil {
					pool = x509.NewCertPool()
				}
				pool.AddCert(cert)
			}
		}
	}
	return pool
}

// embedded returns the contents of the embedded files.
func embedded() (files [][]byte) {
	entries, _ := rdsRoots.ReadDir("rds")
	for _, entry := range entries {
		file, _ := rdsRoots.ReadFile("rds/" + entry.Name())
		files = append(files, file)
	}
	return files
}

// rootsFrom returns the certificates of a PEM file. AppendCertsFromPEM would skip
// invalid ones, so that part of a damaged bundle would be trusted.
func rootsFrom(file string) (*x509.CertPool, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, err
	}
	return parseRoots(file, data)
}

func readFile(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
		err = failed.Err
	}
	if err != nil {
		return nil, fmt.Errorf("could not read %s: %w", quote(file), err)
	}
	return data, nil
}

// quote returns a path in quotes. A backslash, which paths of Windows have, stays as it is.
func quote(path string) string { return strings.ReplaceAll(strconv.Quote(path), `\\`, `\`) }

// parseRoots returns the certificates in data, the content of a PEM file.
func parseRoots(file string, data []byte) (*x509.CertPool, error) {
	certs, err := ParseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s %w", quote(file), err)
	}
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	return pool, nil
}

// byteOrderMark is what editors on Windows put at the start of a UTF-8 file. It is in the
// middle of one that was made of several.
var byteOrderMark = []byte("\xef\xbb\xbf")

func withoutMarks(data []byte) []byte { return bytes.ReplaceAll(data, byteOrderMark, nil) }

// ParseCertificates returns all certificates of a PEM bundle. It fails if any is invalid, or if
// there are none. Other text and blocks are ignored. The error is the predicate of a sentence
// about the bundle.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	data = withoutMarks(data)
	var certs []*x509.Certificate
	other := "" // the type of a block that is no certificate
	for rest := data; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			other = block.Type
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("has an invalid certificate (number %d): %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if begun := bytes.Count(data, []byte("-----BEGIN CERTIFICATE-----")); begun > len(certs) {
		return nil, fmt.Errorf("has %d certificates, of which %d cannot be decoded: the file is truncated, indented or damaged", begun, begun-len(certs))
	}
	if len(certs) == 0 {
		return nil, noCertificate(data, other)
	}
	return certs, nil
}

// noCertificate returns the error for data without a certificate in PEM. other is the type of
// a PEM block in it, or empty.
func noCertificate(data []byte, other string) error {
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return errors.New("is empty")
	case other != "":
		return fmt.Errorf("has no certificate, but a PEM block of type %q", other)
	case bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")):
		return errors.New("is UTF-16 text: save it as UTF-8")
	}
	if _, err := x509.ParseCertificates(data); err == nil {
		return errors.New("is a certificate in DER format: convert it to PEM with openssl x509 -inform der")
	}
	return errors.New("has no certificate in PEM format (-----BEGIN CERTIFICATE-----)")
}
