// Updateca updates the built-in RDS root certificates to those that AWS publishes, and
// prints the changes. With -check it writes nothing and fails if there is a change.
package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/iamproxy/iamproxy/tls"
)

const (
	published = "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
	builtIn   = "tls/global-bundle.pem"

	// Some six times the size of the bundle so far.
	maxSize = 1 << 20
)

func main() {
	os.Exit(run(os.Args[1:], &http.Client{Timeout: time.Minute}, os.Stdout, os.Stderr))
}

// run returns the exit code: 0 done, 1 failed or (with -check) out of date, 2 wrong usage.
func run(args []string, client *http.Client, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("updateca", flag.ContinueOnError)
	flags.SetOutput(stderr)
	source := flags.String("url", published, "where the bundle is published")
	file := flags.String("file", builtIn, "the copy to bring up to date")
	check := flags.Bool("check", false, "write nothing; exit with 1 when the copy is out of date")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "updateca: unknown argument %q\n", flags.Arg(0))
		return 2
	}

	changed, err := update(client, *source, *file, *check, stdout)
	if err != nil {
		fmt.Fprintf(stderr, "updateca: %v\n", err)
		return 1
	}
	if changed && *check {
		fmt.Fprintf(stderr, "updateca: %s is out of date: run make update-ca\n", *file)
		return 1
	}
	return 0
}

// update reports whether file differs from what source publishes, and unless check is set
// replaces it. It compares certificates: their order and layout do not count.
func update(client *http.Client, source, file string, check bool, out io.Writer) (bool, error) {
	pemNew, err := fetch(client, source)
	if err != nil {
		return false, err
	}
	now, err := parse(pemNew)
	if err != nil {
		return false, fmt.Errorf("%s: %w", source, err)
	}
	before, err := readCopy(file, out)
	if err != nil {
		return false, err
	}

	changed := report(out, before, now)
	if !changed || check {
		return changed, nil
	}
	return true, replace(file, pemNew)
}

// fetch downloads the bundle over HTTPS, from the source's host only.
func fetch(client *http.Client, source string) ([]byte, error) {
	u, err := url.Parse(source)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "https" {
		return nil, fmt.Errorf("%s: not an https address", source)
	}
	own := *client
	own.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if req.URL.Scheme != u.Scheme || req.URL.Host != u.Host {
			return fmt.Errorf("redirected away, to %s://%s", req.URL.Scheme, req.URL.Host)
		}
		if len(via) >= 5 {
			return errors.New("too many redirects")
		}
		return nil
	}

	resp, err := own.Get(source)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", source, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	if len(body) > maxSize {
		return nil, fmt.Errorf("%s: larger than %d bytes", source, maxSize)
	}
	return body, nil
}

// readCopy returns the certificates in file. A missing or broken file has none: an update
// repairs it.
func readCopy(file string, out io.Writer) (bundle, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(out, "%s: not there yet\n", file)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	certs, err := parse(data)
	if err != nil {
		fmt.Fprintf(out, "%s: broken: %v\n", file, err)
		return nil, nil
	}
	return certs, nil
}

// bundle holds certificates in the order of the file, each once.
type bundle []*x509.Certificate

func (b bundle) has(cert *x509.Certificate) bool {
	return slices.ContainsFunc(b, cert.Equal)
}

// parse returns the certificates of a bundle that has CA certificates and nothing else.
func parse(data []byte) (bundle, error) {
	parsed, err := tls.ParseCertificates(data)
	if err != nil {
		return nil, err
	}
	var certs bundle
	var encoded []byte
	for n, cert := range parsed {
		if !cert.BasicConstraintsValid || !cert.IsCA {
			return nil, fmt.Errorf("certificate %d: not a CA certificate: %s", n+1, describe(cert))
		}
		if !certs.has(cert) {
			certs = append(certs, cert)
		}
		encoded = append(encoded, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	if !bytes.Equal(bytes.Join(bytes.Fields(encoded), nil), bytes.Join(bytes.Fields(data), nil)) {
		return nil, errors.New("something besides certificates in it")
	}
	return certs, nil
}

// report prints the changes of an update and reports whether there are any.
func report(out io.Writer, before, now bundle) bool {
	added, removed := 0, 0
	for _, cert := range now {
		if !before.has(cert) {
			added++
			fmt.Fprintf(out, "+ %s\n", describe(cert))
		}
	}
	for _, cert := range before {
		if !now.has(cert) {
			removed++
			fmt.Fprintf(out, "- %s\n", describe(cert))
		}
	}
	for _, cert := range now {
		if time.Now().After(cert.NotAfter) {
			fmt.Fprintf(out, "expired, yet published: %s\n", describe(cert))
		}
	}
	fmt.Fprintf(out, "added %d, removed %d, unchanged %d\n", added, removed, len(now)-added)
	return added+removed > 0
}

// describe returns a line about a certificate. The name is quoted, since it comes from the
// network.
func describe(cert *x509.Certificate) string {
	name := cert.Subject.CommonName
	if name == "" {
		name = cert.Subject.String()
	}
	return fmt.Sprintf("%q, until %s, SHA-256 %x", name, cert.NotAfter.UTC().Format(time.DateOnly), fingerprint(cert))
}

// fingerprint returns the start of the fingerprint, which is enough to find the
// certificate.
func fingerprint(cert *x509.Certificate) []byte {
	sum := sha256.Sum256(cert.Raw)
	return sum[:8]
}

// replace replaces the file atomically.
func replace(file string, data []byte) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp.Name())
		}
	}()
	_, err = temp.Write(data)
	if err := errors.Join(err, temp.Chmod(0o644), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), file)
}
