package tls

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// systemRoot is the only system root of the test process. The system roots are read once.
var systemRoot []byte

func TestMain(m *testing.M) {
	os.Exit(runWithSystemRoot(m)) //nolint:forbidigo // a TestMain exits
}

func runWithSystemRoot(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tls-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	systemRoot = selfSigned("system")
	file := filepath.Join(dir, "system.pem")
	if err := os.WriteFile(file, systemRoot, 0o600); err != nil {
		panic(err)
	}
	os.Setenv("SSL_CERT_FILE", file)
	return m.Run()
}

func TestSystemRoots(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system roots cannot be set on this system")
	}
	pool, err := Roots("")
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := parseCertificates(systemRoot)
	if _, err := cert[0].Verify(x509.VerifyOptions{Roots: pool}); err != nil {
		t.Errorf("a system root is not trusted: %v", err)
	}
}

func TestEmbeddedRoots(t *testing.T) {
	certs, err := parseCertificates(rdsRoots)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := Roots("")
	if err != nil {
		t.Fatal(err)
	}
	regions := map[string]bool{}
	var encoded []byte
	for _, cert := range certs {
		t.Logf("%s, until %s, SHA-256 %x", cert.Subject.CommonName, cert.NotAfter.Format(time.DateOnly), sha256.Sum256(cert.Raw))
		encoded = append(encoded, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
		if !cert.IsCA {
			t.Errorf("%s is not a CA", cert.Subject.CommonName)
		}
		if _, err := cert.Verify(x509.VerifyOptions{
			Roots:       pool,
			CurrentTime: cert.NotBefore.Add(time.Hour),
			KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		}); err != nil {
			t.Errorf("%s is not trusted: %v", cert.Subject.CommonName, err)
		}
		// "Amazon RDS eu-west-1 Root CA RSA2048 G1"
		if words := strings.Fields(cert.Subject.CommonName); len(words) > 2 {
			regions[words[2]] = true
		}
	}
	if !bytes.Equal(bytes.Join(bytes.Fields(encoded), nil), bytes.Join(bytes.Fields(rdsRoots), nil)) {
		t.Error("the file contains more than certificates")
	}
	if len(regions) < 30 {
		t.Errorf("roots of %d regions, want at least 30", len(regions))
	}
}

func TestCAFile(t *testing.T) {
	own := selfSigned("own")
	pool, err := Roots(writeCA(t, own))
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := parseCertificates(own)
	if _, err := cert[0].Verify(x509.VerifyOptions{Roots: pool}); err != nil {
		t.Errorf("the root in the file is not trusted: %v", err)
	}
	rds, _ := parseCertificates(rdsRoots)
	if _, err := rds[0].Verify(x509.VerifyOptions{Roots: pool, CurrentTime: rds[0].NotBefore.Add(time.Hour)}); err == nil {
		t.Error("an RDS root is trusted in addition to the file")
	}
}

func TestInvalidCAFile(t *testing.T) {
	good := string(selfSigned("good"))
	for _, test := range []struct{ name, content, want string }{
		{"empty", "", "no PEM certificate"},
		{"not PEM", "hello", "no PEM certificate"},
		{"truncated", good + good[:len(good)/2], "1 of 2 certificates are not valid PEM"},
		{"not a certificate", good + "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n", "certificate 2: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := writeCA(t, []byte(test.content))
			_, err := Roots(file)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("got error %v, want one with %q and the file's name", err, test.want)
			}
		})
	}
	if _, err := Roots("/does/not/exist.pem"); err == nil || !strings.Contains(err.Error(), "/does/not/exist.pem") {
		t.Errorf("got error %v for a file that does not exist", err)
	}
}

func TestUpstream(t *testing.T) {
	pool := x509.NewCertPool()
	config := Upstream("db.example", pool)
	if config.InsecureSkipVerify || config.ServerName != "db.example" || config.RootCAs != pool || config.MinVersion != tls.VersionTLS12 {
		t.Errorf("not a verifying configuration: %+v", config)
	}
}

func selfSigned(name string) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func writeCA(t *testing.T, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
