//go:build unix

package e2e

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/tls"
)

// Every sslmode works with a certificate that the client can verify, and direct TLS works
// on the same port.
func TestClientTLS(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key, "localhost")
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--listen-tls="+cert+","+key)...)
	at := func(host, more string) string {
		return fmt.Sprintf("host=%s hostaddr=127.0.0.1 port=%s user=%s dbname=%s %s", host, p.port(), aurora.IAMUser, aurora.Database, more)
	}
	for conninfo, want := range map[string]string{
		at("localhost", "sslmode=disable"):                                 "in",
		at("localhost", "sslmode=prefer"):                                  "in",
		at("localhost", "sslmode=require"):                                 "in",
		at("other", "sslmode=verify-ca sslrootcert="+cert):                 "in",
		at("localhost", "sslmode=verify-full sslrootcert="+cert):           "in",
		at("other", "sslmode=verify-full sslrootcert="+cert):               "does not match host name",
		at("localhost", "sslmode=verify-ca sslrootcert="+cluster.CAFile()): "certificate verify failed",
	} {
		if out, _ := psqlAt(t, conninfo, "select 'in'"); !strings.Contains(out, want) {
			t.Errorf("%s: psql printed %q, want %q", conninfo, out, want)
		}
	}
	direct, err := pgx.Connect(t.Context(), p.conninfo(aurora.IAMUser, aurora.Database)+" sslmode=require sslnegotiation=direct")
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close(context.Background())
	if !strings.Contains(p.logs(), `"client_tls":"TLS 1.3"`) {
		t.Error("the log does not say that a client speaks TLS")
	}

	// A new certificate is used without a restart, for new connections.
	old := filepath.Join(dir, "old.pem")
	if err := os.Rename(cert, old); err != nil {
		t.Fatal(err)
	}
	writePair(t, cert, key, "localhost")
	if out, err := psqlAt(t, at("localhost", "sslmode=verify-full sslrootcert="+cert), "select 'in'"); err != nil || out != "in" {
		t.Errorf("with the new certificate: %v: %s", err, out)
	}
	if out, err := psqlAt(t, at("localhost", "sslmode=verify-full sslrootcert="+old), "select 'in'"); err == nil {
		t.Errorf("with the old certificate: %s", out)
	}
	if _, err := direct.Exec(t.Context(), "select 1"); err != nil {
		t.Errorf("the session with the old certificate: %v", err)
	}
}

func TestSelfSignedTLS(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, append(keyEnvironment(aurora.DefaultKey), "IAMPROXY_LISTEN_TLS=self-signed"), clusterArgs(cluster)...)
	for _, mode := range []string{"disable", "prefer", "require"} {
		if out, err := psqlAt(t, p.conninfo(aurora.IAMUser, aurora.Database)+" sslmode="+mode, "select 'in'"); err != nil || out != "in" {
			t.Errorf("sslmode=%s: %v: %s", mode, err, out)
		}
	}
	// Errors of the server and of iamproxy arrive through TLS as well.
	if out, err := psqlAt(t, p.conninfo(aurora.PlainUser, aurora.Database)+" sslmode=require", "select 1"); err == nil || !strings.Contains(out, "instead of a token") {
		t.Errorf("psql printed %q", out)
	}
	for range 3 { // a health check is not a failed login
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		if out, err := combinedOutput(t, client(ctx, binaryPath(t), "wait", "--admin=off", "--listen="+p.listens[0])); err != nil {
			t.Fatalf("wait: %v: %s", err, out)
		}
		cancel()
	}
	if strings.Contains(p.logs(), "TLS handshake with the client failed") {
		t.Error("a health check is reported as a client")
	}
	testCancel(t, cluster, p) // psql sends it in clear
}

// writePair writes a certificate and its key.
func writePair(t *testing.T, cert, key string, names ...string) {
	t.Helper()
	made, err := tls.SelfSigned(names...)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: made.Certificate[0]},
		key:  {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
