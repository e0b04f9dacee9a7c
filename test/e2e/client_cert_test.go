//go:build unix

package e2e

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
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
	"github.com/iamproxy/iamproxy/test/clientcert"
)

// issue returns a certificate as in template, issued by ca, or by itself if ca is nil.
func issue(t *testing.T, ca *clientcert.Pair, template *x509.Certificate) *clientcert.Pair {
	t.Helper()
	p, err := clientcert.Issue(ca, template)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// certificateConninfo writes a certificate with its intermediates, and returns libpq's parameters for it.
func certificateConninfo(t *testing.T, leaf *clientcert.Pair, intermediates ...*clientcert.Pair) string {
	t.Helper()
	dir := t.TempDir()
	if err := leaf.Write(dir, intermediates...); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(" sslmode=require sslcert=%s sslkey=%s", filepath.Join(dir, clientcert.CertFile), filepath.Join(dir, clientcert.KeyFile))
}

func writeFile(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

const withoutCertificate = " sslmode=require sslcert=/nonexistent"

// A client logs in only with a valid certificate that names the database user, and a connection
// of the pool serves no other. The file of --client-ca is read again.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	ca, other := issue(t, nil, clientcert.CA("clients")), issue(t, nil, clientcert.CA("other"))
	file := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, file, clientcert.Encode(ca))
	p := startProxy(t, keyEnvironment(aurora.DefaultKey),
		clusterArgs(cluster, "--listen-tls=self-signed", "--client-ca="+file, "--client-cert-user=cn", "--pool=1")...)
	at := p.conninfo(aurora.IAMUser, aurora.Database)
	conninfo := func(ca *clientcert.Pair, template *x509.Certificate) string {
		return certificateConninfo(t, issue(t, ca, template))
	}
	in := conninfo(ca, clientcert.Named(aurora.IAMUser))
	login := func(name, certificate, want string) {
		t.Helper()
		if out, err := psqlAt(t, at+certificate, "select 'in'"); (err == nil) != (want == "in") || !strings.Contains(out, want) {
			t.Errorf("%s: psql printed %q, want %q", name, out, want)
		}
	}
	login("valid", in, "in") // and leaves its connection to the pool

	ten := time.Now().Add(-10 * 24 * time.Hour)
	middle := issue(t, ca, clientcert.CA("middle"))
	leaf := issue(t, middle, clientcert.Named(aurora.IAMUser))
	for _, row := range []struct{ name, certificate, want string }{
		{"without TLS", " sslmode=disable", "connection without TLS"},
		{"no certificate", withoutCertificate, "connection requires a valid client certificate"},
		{"another user", conninfo(ca, clientcert.Named("another")), `client certificate "CN=another" does not name user "` + aurora.IAMUser + `"`},
		{"the user in another case", conninfo(ca, clientcert.Named(strings.ToUpper(aurora.IAMUser))), "does not name user"},
		{"an alternative name", conninfo(ca, &x509.Certificate{Subject: pkix.Name{CommonName: "another"}, DNSNames: []string{aurora.IAMUser}}), "does not name user"},
		{"two common names", conninfo(ca, &x509.Certificate{Subject: pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: []int{2, 5, 4, 3}, Value: "another"}, {Type: []int{2, 5, 4, 3}, Value: aurora.IAMUser}}}}), "does not name user"},
		{"another CA", conninfo(other, clientcert.Named(aurora.IAMUser)), "unknown authority"},
		{"expired", conninfo(ca, &x509.Certificate{Subject: pkix.Name{CommonName: aurora.IAMUser}, NotBefore: ten, NotAfter: ten.Add(time.Hour)}), "expired"},
		{"of a server", conninfo(ca, &x509.Certificate{Subject: pkix.Name{CommonName: aurora.IAMUser}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}), "key usage"},
		{"without its intermediate", certificateConninfo(t, leaf), "unknown authority"},
		{"with its intermediate", certificateConninfo(t, leaf, middle), "in"},
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
	writeFile(t, file, clientcert.Encode(other))
	login("the CA was removed", in, "unknown authority")
	login("the new CA", conninfo(other, clientcert.Named(aurora.IAMUser)), "in")
}

// A certificate may name the user in an alternative name. With --user, it must name that user.
func TestClientCertificateAltNames(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	ca := issue(t, nil, clientcert.CA("clients"))
	file := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, file, clientcert.Encode(ca))
	p := startProxy(t, keyEnvironment(aurora.DefaultKey),
		clusterArgs(cluster, "--listen-tls=self-signed", "--client-ca="+file, "--client-cert-user=san", "--user="+aurora.IAMUser)...)
	at := p.conninfo("somebody", aurora.Database)
	for want, certificate := range map[string]*x509.Certificate{
		"in":                  {DNSNames: []string{"another.example.com", aurora.IAMUser}},
		`"somebody" does not`: {DNSNames: []string{"somebody"}},
		`"CN=` + aurora.IAMUser + `" does not name user "` + aurora.IAMUser: clientcert.Named(aurora.IAMUser),
	} {
		if out, err := psqlAt(t, at+certificateConninfo(t, issue(t, ca, certificate)), "select 'in'"); (err == nil) != (want == "in") || !strings.Contains(out, want) {
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
