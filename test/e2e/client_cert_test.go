//go:build unix

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/test/aurora"
)

// clientCA issues certificates for clients.
type clientCA struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newClientCA(t *testing.T, name string) *clientCA {
	ca := &clientCA{t: t}
	ca.certificate, ca.key = ca.issue(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return ca
}

// issue returns a certificate as in template, issued by the CA, or by itself if there is none yet.
// It is valid for an hour unless template has dates.
func (ca *clientCA) issue(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	ca.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	issuer, signer := ca.certificate, ca.key
	if issuer == nil {
		issuer, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		ca.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return certificate, key
}

// conninfo issues a certificate and returns libpq's parameters for it.
func (ca *clientCA) conninfo(template *x509.Certificate) string {
	certificate, key := ca.issue(template)
	return certificateConninfo(ca.t, key, certificate)
}

// certificateConninfo writes a key and its certificates, and returns libpq's parameters for them.
func certificateConninfo(t *testing.T, key *ecdsa.PrivateKey, certificates ...*x509.Certificate) string {
	t.Helper()
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	writeFile(t, filepath.Join(dir, "cert.pem"), encodeCertificates(certificates...))
	return fmt.Sprintf(" sslmode=require sslcert=%s/cert.pem sslkey=%[1]s/key.pem", dir)
}

func encodeCertificates(certificates ...*x509.Certificate) (b []byte) {
	for _, c := range certificates {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

func writeFile(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

const withoutCertificate = " sslmode=require sslcert=/nonexistent"

func named(name string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}}
}

// A client logs in only with a valid certificate that names the database user, and a connection
// of the pool serves no other. The file of --client-ca is read again.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	ca, other := newClientCA(t, "clients"), newClientCA(t, "other")
	file := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, file, encodeCertificates(ca.certificate))
	p := startProxy(t, keyEnvironment(aurora.DefaultKey),
		clusterArgs(cluster, "--listen-tls=self-signed", "--client-ca="+file, "--client-cert-user=cn", "--pool=1")...)
	at := p.conninfo(aurora.IAMUser, aurora.Database)
	in := ca.conninfo(named(aurora.IAMUser))
	login := func(name, certificate, want string) {
		t.Helper()
		if out, err := psqlAt(t, at+certificate, "select 'in'"); (err == nil) != (want == "in") || !strings.Contains(out, want) {
			t.Errorf("%s: psql printed %q, want %q", name, out, want)
		}
	}
	login("valid", in, "in") // and leaves its connection to the pool

	ten := time.Now().Add(-10 * 24 * time.Hour)
	middle, middleKey := ca.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "middle"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	leaf, leafKey := (&clientCA{t, middle, middleKey}).issue(named(aurora.IAMUser))
	for _, row := range []struct{ name, certificate, want string }{
		{"without TLS", " sslmode=disable", "connection without TLS"},
		{"no certificate", withoutCertificate, "connection requires a valid client certificate"},
		{"another user", ca.conninfo(named("another")), `client certificate "CN=another" does not name user "` + aurora.IAMUser + `"`},
		{"the user in another case", ca.conninfo(named(strings.ToUpper(aurora.IAMUser))), "does not name user"},
		{"an alternative name", ca.conninfo(&x509.Certificate{Subject: pkix.Name{CommonName: "another"}, DNSNames: []string{aurora.IAMUser}}), "does not name user"},
		{"two common names", ca.conninfo(&x509.Certificate{Subject: pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: []int{2, 5, 4, 3}, Value: "another"}, {Type: []int{2, 5, 4, 3}, Value: aurora.IAMUser}}}}), "does not name user"},
		{"another CA", other.conninfo(named(aurora.IAMUser)), "unknown authority"},
		{"expired", ca.conninfo(&x509.Certificate{Subject: pkix.Name{CommonName: aurora.IAMUser}, NotBefore: ten, NotAfter: ten.Add(time.Hour)}), "expired"},
		{"of a server", ca.conninfo(&x509.Certificate{Subject: pkix.Name{CommonName: aurora.IAMUser}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}), "key usage"},
		{"without its intermediate", certificateConninfo(t, leafKey, leaf), "unknown authority"},
		{"with its intermediate", certificateConninfo(t, leafKey, leaf, middle), "in"},
	} {
		login(row.name, row.certificate, row.want)
	}
	direct, err := pgx.Connect(t.Context(), at+in+" sslnegotiation=direct")
	if err != nil {
		t.Fatalf("direct TLS: %v", err)
	}
	direct.Close(context.Background())
	if _, err := pgx.Connect(t.Context(), at+" sslmode=require sslnegotiation=direct"); err == nil || !strings.Contains(err.Error(), "requires a valid client certificate") {
		t.Errorf("direct TLS without a certificate: %v", err)
	}
	if !strings.Contains(p.logs(), `"client_cert":"CN=`+aurora.IAMUser+`"`) {
		t.Error("the log does not name the certificate of a session")
	}
	for _, reason := range []pgwire.Reason{pgwire.ClientTLSRequired, pgwire.ClientCertMissing, pgwire.ClientCertInvalid, pgwire.ClientCertUser} {
		if _, metrics := p.get("/metrics"); !strings.Contains(metrics, fmt.Sprintf(`reason=%q,sqlstate="28000"`, reason)) {
			t.Errorf("no failures with reason %s", reason)
		}
	}

	// Health checks are not rejected.
	before := countClientWarnings(p)
	conn, err := net.Dial("tcp", p.listens[0])
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if out, err := combinedOutput(t, client(t.Context(), binaryPath(t), "wait", "--admin=off", "--listen="+p.listens[0])); err != nil {
		t.Errorf("wait: %v: %s", err, out)
	}
	if after := countClientWarnings(p); after != before {
		t.Errorf("health checks logged %d warnings", after-before)
	}

	writeFile(t, file, []byte("broken"))
	login("the file is broken", in, "in")
	if !strings.Contains(p.logs(), "could not reload the roots of client certificates; the previous content stays in use") {
		t.Error("the log does not have the broken file")
	}
	writeFile(t, file, encodeCertificates(other.certificate))
	login("the CA was removed", in, "unknown authority")
	login("the new CA", other.conninfo(named(aurora.IAMUser)), "in")
}

// A certificate may name the user in an alternative name. With --user, it must name that user.
func TestClientCertificateAltNames(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	ca := newClientCA(t, "clients")
	file := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, file, encodeCertificates(ca.certificate))
	p := startProxy(t, keyEnvironment(aurora.DefaultKey),
		clusterArgs(cluster, "--listen-tls=self-signed", "--client-ca="+file, "--client-cert-user=san", "--user="+aurora.IAMUser)...)
	at := p.conninfo("somebody", aurora.Database)
	for want, certificate := range map[string]*x509.Certificate{
		"in":                  {DNSNames: []string{"another.example.com", aurora.IAMUser}},
		`"somebody" does not`: {DNSNames: []string{"somebody"}},
		`"CN=` + aurora.IAMUser + `" does not name user "` + aurora.IAMUser: named(aurora.IAMUser),
	} {
		if out, err := psqlAt(t, at+ca.conninfo(certificate), "select 'in'"); (err == nil) != (want == "in") || !strings.Contains(out, want) {
			t.Errorf("psql printed %q, want %q", out, want)
		}
	}
}

// With --require-tls, clients need TLS and no certificate. A cancel request does not need it.
func TestRequireTLS(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--listen-tls=self-signed", "--require-tls")...)
	at := p.conninfo(aurora.IAMUser, aurora.Database)
	for mode, want := range map[string]string{
		"disable": "connection without TLS, which is required here",
		"allow":   "in", // tries again with TLS
		"prefer":  "in",
		"require": "in",
	} {
		if out, _ := psqlAt(t, at+" sslmode="+mode, "select 'in'"); !strings.Contains(out, want) {
			t.Errorf("sslmode=%s: psql printed %q, want %q", mode, out, want)
		}
	}
	conn, err := net.Dial("tcp", p.listens[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	frontend := pgproto3.NewFrontend(conn, conn)
	frontend.Send(&pgproto3.GSSEncRequest{})
	if err := frontend.Flush(); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 1)
	if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 'N' {
		t.Errorf("answered %q to a GSSENCRequest: %v", answer, err)
	}
	frontend.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": aurora.IAMUser}})
	if err := frontend.Flush(); err != nil {
		t.Fatal(err)
	}
	if message, err := frontend.Receive(); err != nil {
		t.Error(err)
	} else if e, ok := message.(*pgproto3.ErrorResponse); !ok || e.Code != "28000" || e.Severity != "FATAL" || e.Hint == "" {
		t.Errorf("after a GSSENCRequest: %+v", message)
	}
	testCancelAt(t, cluster, at+" sslmode=require") // psql sends it in clear
}
