package tls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"slices"
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
	pool := allRoots()
	cert, _ := ParseCertificates(systemRoot)
	if _, err := cert[0].Verify(x509.VerifyOptions{Roots: pool}); err != nil {
		t.Errorf("a system root is not trusted: %v", err)
	}
}

// TestEmbeddedRoots verifies that each embedded certificate is a root of RDS, and that it is
// trusted. The names of the files are partitions with published bundles.
func TestEmbeddedRoots(t *testing.T) {
	pool := allRoots()
	entries, err := rdsRoots.ReadDir("rds")
	if err != nil {
		t.Fatal(err)
	}
	all := embeddedCerts(t, "aws.pem")
	other := all[slices.IndexFunc(all, func(c *x509.Certificate) bool { return issuingRegion(c) == "us-east-1" })]
	for _, entry := range entries {
		i := slices.IndexFunc(Bundles, func(b Bundle) bool { return b.Partition+".pem" == entry.Name() })
		if i < 0 {
			t.Fatalf("%s: no partition with a published bundle has this name", entry.Name())
		}
		for _, cert := range embeddedCerts(t, entry.Name()) {
			if !cert.IsCA || !IssuedByRDS(cert) || cert.CheckSignatureFrom(cert) != nil {
				t.Errorf("%s is not a root of RDS", cert.Subject)
			}
			if !trusts(pool, cert) {
				t.Errorf("%s is not trusted", cert.Subject)
			}
			region := issuingRegion(cert)
			if first, all := (Roots{}).Of(region); first == nil || all == nil || !trusts(first, cert) || region != "us-east-1" && trusts(first, other) {
				t.Errorf("the first roots of %s are not its own", region)
			}
			if !Bundles[i].has(region) || !strings.HasPrefix(BundleURL(cert), Bundles[i].site+"/"+region+"/") || !HasEmbeddedRoots(cert) {
				t.Errorf("%s: region %q, bundle %s", cert.Subject, region, BundleURL(cert))
			}
		}
	}
}

func trusts(roots *x509.CertPool, cert *x509.Certificate) bool {
	_, err := cert.Verify(x509.VerifyOptions{
		Roots:       roots,
		CurrentTime: cert.NotBefore.Add(time.Hour),
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err == nil
}

// TestRootsWithoutRegion verifies that a database whose region has no embedded roots, or which
// public roots certify, is verified with all roots.
func TestRootsWithoutRegion(t *testing.T) {
	for _, region := range []string{"", "xx-nowhere-1", "eu-west"} {
		if first, all := (Roots{}).Of(region); first != nil || all == nil {
			t.Errorf("%q has first roots", region)
		}
	}
}

func embeddedCerts(t *testing.T, name string) []*x509.Certificate {
	t.Helper()
	data, err := rdsRoots.ReadFile("rds/" + name)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := ParseCertificates(data)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

// TestUntrustedHint verifies that the hint for a certificate of RDS names its region's bundle,
// and that the hint for another one does not begin with trusting it.
func TestUntrustedHint(t *testing.T) {
	for issuer, want := range map[string]string{
		"Amazon RDS ap-east-2 Root CA RSA2048 G1":          "Download https://truststore.pki.rds.amazonaws.com/ap-east-2/ap-east-2-bundle.pem and pass it with --ca-file.",
		"Amazon RDS cn-north-1 Root CA RSA2048 G1":         "Download https://rds-truststore.s3.cn-north-1.amazonaws.com.cn/cn-north-1/cn-north-1-bundle.pem and pass it with --ca-file.",
		"Amazon RDS us-gov-west-1 Subordinate CA RSA G1.A": "If --ca-file is set, leave it out: the roots of RDS in us-gov-west-1 are built in. Otherwise RDS has a newer one. Download https://truststore.pki.us-gov-west-1.rds.amazonaws.com/us-gov-west-1/us-gov-west-1-bundle.pem and pass it with --ca-file.",
		"Amazon RDS eusc-de-east-1 Root CA RSA2048 G1":     "Download the root certificates of RDS for this region, which the RDS User Guide of its partition names, and pass them with --ca-file.",
		"Amazon RDS us-iso-east-1 Root CA RSA2048 G1":      "Download the root certificates of RDS for this region, which the RDS User Guide of its partition names, and pass them with --ca-file.",
		"Amazon RDS x-1;reboot CA":                         "Download the root certificates of RDS for this region, which the RDS User Guide of its partition names, and pass them with --ca-file.",
		"Example Corp Inspection":                          `Find out who issued it ("Example Corp Inspection"). ` + exemptAdvice,
		"two\nlines\x1b[31m" + strings.Repeat("x", 100):    `Find out who issued it ("two\nlines\x1b[31m` + strings.Repeat("x", 50) + `…"). ` + exemptAdvice,
	} {
		cert := &x509.Certificate{Issuer: pkix.Name{CommonName: issuer}}
		if got := UntrustedHint(cert); got != want {
			t.Errorf("%q:\n%s\nwant:\n%s", issuer, got, want)
		}
	}
}

func TestCAFile(t *testing.T) {
	own := selfSigned("own")
	roots, err := LoadRoots(writeCA(t, own))
	if err != nil {
		t.Fatal(err)
	}
	pool, all := roots.Of("eu-west-1")
	if all != nil {
		t.Error("there are other roots than those of the file")
	}
	cert, _ := ParseCertificates(own)
	if _, err := cert[0].Verify(x509.VerifyOptions{Roots: pool}); err != nil {
		t.Errorf("the root in the file is not trusted: %v", err)
	}
	marked := "\ufeff" + strings.ReplaceAll(string(own), "\n", "\r\n") // as editors on Windows write it
	if _, err := LoadRoots(writeCA(t, []byte(marked+marked))); err != nil {
		t.Errorf("with byte order marks: %v", err)
	}
	rds := embeddedCerts(t, "aws.pem")
	if _, err := rds[0].Verify(x509.VerifyOptions{Roots: pool, CurrentTime: rds[0].NotBefore.Add(time.Hour)}); err == nil {
		t.Error("an RDS root is trusted in addition to the file")
	}
}

func TestInvalidCAFile(t *testing.T) {
	good := string(selfSigned("good"))
	block, _ := pem.Decode([]byte(good))
	var wide []byte
	for _, b := range []byte(good) {
		wide = append(wide, b, 0)
	}
	for _, test := range []struct{ name, content, want string }{
		{"empty", "\ufeff \r\n", "is empty"},
		{"not PEM", "hello", "has no certificate in PEM format (-----BEGIN CERTIFICATE-----)"},
		{"truncated", good + good[:len(good)/2], "has 2 certificates, of which 1 cannot be decoded"},
		{"indented", "  " + strings.ReplaceAll(good, "\n", "\n  "), "has 1 certificates, of which 1 cannot be decoded: the file is truncated, indented or damaged"},
		{"not a certificate", good + "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n", "has an invalid certificate (number 2): "},
		{"a key", "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n", `has no certificate, but a PEM block of type "PRIVATE KEY"`},
		{"DER", string(block.Bytes), "is a certificate in DER format: convert it to PEM with openssl x509 -inform der"},
		{"UTF-16", "\xff\xfe" + string(wide), "is UTF-16 text: save it as UTF-8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := writeCA(t, []byte(test.content))
			_, err := LoadRoots(file)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("got error %v, want one with %q and the file's name", err, test.want)
			}
		})
	}
	if _, err := LoadRoots("/does/not/exist.pem"); err == nil || !strings.Contains(err.Error(), "/does/not/exist.pem") {
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
