package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/tls"
)

// TestUpdate verifies that a published bundle replaces a file, that only its roots are kept, and
// that an answer that is no bundle of RDS leaves the file as it is.
func TestUpdate(t *testing.T) {
	root, key := authority(t, "Amazon RDS eu-west-1 Root CA RSA2048 G1", nil, nil)
	next, _ := authority(t, "Amazon RDS eu-west-2 Root CA RSA2048 G1", nil, nil)
	subordinate, _ := authority(t, "Amazon RDS eu-west-1 Subordinate CA", root, key)
	other, _ := authority(t, "Example Root CA", nil, nil)
	good := encode([]*x509.Certificate{next, subordinate, root, root})
	answers := map[string]http.HandlerFunc{
		"/good":         send(good),
		"/redirect":     func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/good", http.StatusFound) },
		"/error":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"/huge":         send(append(good, bytes.Repeat([]byte("\n"), maxSize)...)),
		"/page":         send([]byte("<html></html>")),
		"/empty":        send(nil),
		"/truncated":    send(good[:len(good)-100]),
		"/other":        send(append(encode([]*x509.Certificate{other}), good...)),
		"/subordinates": send(encode([]*x509.Certificate{subordinate})),
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answers[r.URL.Path](w, r) }))
	defer server.Close()

	file := filepath.Join(t.TempDir(), "aws.pem")
	run := func(path string) (string, error) {
		var out strings.Builder
		err := update(context.Background(), server.Client(), server.URL+path, file, &out)
		return out.String(), err
	}
	before := encode([]*x509.Certificate{root})
	if out, err := run("/subordinates"); err == nil {
		t.Errorf("a bundle without roots is written: %s", out)
	}
	if err := os.WriteFile(file, before, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/redirect":     "302 Found",
		"/error":        "403 Forbidden",
		"/huge":         "has more than 4194304 bytes",
		"/page":         "has no certificate in PEM format",
		"/empty":        "is empty",
		"/truncated":    "of which 1 cannot be decoded",
		"/other":        "not an authority of RDS: CN=Example Root CA",
		"/subordinates": "has no root certificate",
	} {
		_, err := run(path)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", path, err, want)
		}
		if got := read(t, file); !bytes.Equal(got, before) {
			t.Errorf("%s: the file has changed", path)
		}
	}

	out, err := run("/good")
	if err != nil || !strings.Contains(out, "+ "+next.Subject.CommonName) || strings.Contains(out, root.Subject.CommonName) {
		t.Errorf("%v, %s", err, out)
	}
	if got := read(t, file); !bytes.Equal(got, encode([]*x509.Certificate{root, next})) {
		t.Errorf("the file is not the two roots in order:\n%s", got)
	}
	if out, err := run("/good"); err != nil || !strings.Contains(out, "no change, 2 roots") {
		t.Errorf("again: %v, %s", err, out)
	}
}

// TestEmbeddedFiles verifies that the embedded files are as update would write them.
func TestEmbeddedFiles(t *testing.T) {
	for _, bundle := range tls.Bundles {
		data, err := os.ReadFile(filepath.Join("../../tls/rds", bundle.Partition+".pem"))
		if os.IsNotExist(err) && bundle.Partition == "aws-cn" {
			continue // docs/certificates.md lists it
		}
		if err != nil {
			t.Fatal(err)
		}
		roots, err := rootsIn(data)
		if err != nil || !bytes.Equal(data, encode(roots)) {
			t.Errorf("%s: %d roots, %v", bundle.Partition, len(roots), err)
		}
	}
}

func send(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// authority returns a certificate authority, which parent has issued unless it is nil.
func authority(t *testing.T, name string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}
