package tls

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestSelfSigned verifies that a client with the certificate as its root accepts it
// for each of its names and for no other.
func TestSelfSigned(t *testing.T) {
	certificate, err := SelfSigned("localhost", "127.0.0.1", "::1", "localhost", "")
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if shown, err := handshake(t, certificate, &tls.Config{ServerName: name, RootCAs: pool}); err != nil || !shown.Equal(root) {
			t.Errorf("as %s: %v", name, err)
		}
	}
	if _, err := handshake(t, certificate, &tls.Config{ServerName: "other", RootCAs: pool}); err == nil {
		t.Error("valid for another name")
	}
	again, err := SelfSigned("localhost")
	if err != nil || bytes.Equal(again.Certificate[0], certificate.Certificate[0]) {
		t.Error("the same certificate twice")
	}
}

// handshake connects a client and returns the server's certificate.
func handshake(t *testing.T, certificate *tls.Certificate, config *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", Downstream(func() *tls.Certificate { return certificate }))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_ = conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	client, err := tls.Dial("tcp", listener.Addr().String(), config)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return client.ConnectionState().PeerCertificates[0], nil
}

// TestFiles verifies that a change takes effect at once when it is complete and not
// before, and that incomplete changes are logged once.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	core, logs := observer.New(zap.WarnLevel)
	f := &Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), Log: zap.New(core)}
	if err := f.Load(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), f.Cert) {
		t.Errorf("without files: %v", err)
	}
	cert, key := newPair(t)
	write(t, f.Cert, cert)
	write(t, f.Key, []byte("no key"))
	if err := f.Load(); err == nil || !strings.Contains(err.Error(), f.Key) {
		t.Errorf("without a key: %v", err)
	}
	write(t, f.Key, key)
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	is := func(want []byte) bool {
		block, _ := pem.Decode(want)
		return bytes.Equal(f.Current().Certificate[0], block.Bytes)
	}
	if !is(cert) {
		t.Error("not the certificate in the file")
	}

	mark := []byte("\ufeff")
	write(t, f.Cert, append(mark, cert...))
	write(t, f.Key, append(mark, key...))
	if err := f.Load(); err != nil {
		t.Errorf("with byte order marks: %v", err)
	}

	// The certificate has changed and the key has not.
	nextCert, nextKey := newPair(t)
	write(t, f.Cert, nextCert)
	for range 3 {
		if !is(cert) {
			t.Error("a certificate without its key is in use")
		}
	}
	if n := logs.Len(); n != 1 {
		t.Errorf("%d log lines", n)
	}
	write(t, f.Key, nextKey)
	if !is(nextCert) {
		t.Error("the files were not read again")
	}
	os.Remove(f.Key)
	for range 3 {
		if !is(nextCert) {
			t.Error("the certificate is not in use without its files")
		}
	}
	if n := logs.Len(); n != 2 {
		t.Errorf("%d log lines", n)
	}
	write(t, f.Cert, cert)
	write(t, f.Key, key)
	if !is(cert) {
		t.Error("the files were not read again after they had been missing")
	}
}

// newPair returns a certificate and its key in PEM.
func newPair(t *testing.T) (cert, key []byte) {
	t.Helper()
	made, err := SelfSigned("localhost")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func write(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
