// Updateca downloads the root certificates that RDS publishes and writes those of each
// partition into a file for package tls to embed. It prints the changes.
package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/iamproxy/iamproxy/tls"
)

func main() {
	to := flag.String("to", "tls/rds", "the `DIRECTORY` of the files")
	flag.Parse()
	client := &http.Client{Timeout: time.Minute}
	var errs []error
	for _, bundle := range tls.Bundles {
		file := filepath.Join(*to, bundle.Partition+".pem")
		if err := update(context.Background(), client, bundle.URL(), file, os.Stdout); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", bundle.Partition, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// update replaces file with the roots at url. It leaves the file as it is on an error.
func update(ctx context.Context, client *http.Client, url, file string, out io.Writer) error {
	data, err := download(ctx, client, url)
	if err != nil {
		return err
	}
	roots, err := rootsIn(data)
	if err != nil {
		return fmt.Errorf("%s %w", url, err)
	}
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	encoded := encode(roots)
	if bytes.Equal(before, encoded) {
		fmt.Fprintf(out, "%s: no change, %d roots\n", file, len(roots))
		return nil
	}
	if err := os.WriteFile(file, encoded, 0o644); err != nil {
		return err
	}
	var old []*x509.Certificate
	if len(before) > 0 {
		if old, err = tls.ParseCertificates(before); err != nil {
			return fmt.Errorf("%s %w", file, err)
		}
	}
	fmt.Fprintf(out, "%s: changed, %d roots\n", file, len(roots))
	list(out, "-", old, roots)
	list(out, "+", roots, old)
	return nil
}

// maxSize is more than ten times the size of the largest bundle.
const maxSize = 4 << 20

// download returns what is at url. It follows no redirects.
func download(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	direct := *client
	direct.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := direct.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	if len(data) > maxSize {
		return nil, fmt.Errorf("%s has more than %d bytes", url, maxSize)
	}
	return data, nil
}

// rootsIn returns the self-signed authorities of a bundle in a stable order. It leaves out
// intermediate authorities, which servers send. It fails if another authority than RDS has
// issued a certificate.
func rootsIn(data []byte) ([]*x509.Certificate, error) {
	certs, err := tls.ParseCertificates(data)
	if err != nil {
		return nil, err
	}
	var roots []*x509.Certificate
	for _, cert := range certs {
		switch {
		case !cert.IsCA || !tls.IssuedByRDS(cert):
			return nil, fmt.Errorf("has a certificate that is not an authority of RDS: %s", cert.Subject)
		case cert.CheckSignatureFrom(cert) == nil && !slices.ContainsFunc(roots, cert.Equal):
			roots = append(roots, cert)
		}
	}
	if len(roots) == 0 {
		return nil, errors.New("has no root certificate")
	}
	slices.SortFunc(roots, func(a, b *x509.Certificate) int {
		return cmp.Or(cmp.Compare(a.Subject.CommonName, b.Subject.CommonName), bytes.Compare(a.Raw, b.Raw))
	})
	return roots, nil
}

func encode(certs []*x509.Certificate) (encoded []byte) {
	for _, cert := range certs {
		encoded = append(encoded, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return encoded
}

// list prints the certificates of a that are not in b.
func list(out io.Writer, sign string, a, b []*x509.Certificate) {
	for _, cert := range a {
		if !slices.ContainsFunc(b, cert.Equal) {
			fmt.Fprintf(out, "%s %s, until %s, SHA-256 %x\n", sign, cert.Subject.CommonName, cert.NotAfter.Format(time.DateOnly), sha256.Sum256(cert.Raw))
		}
	}
}
