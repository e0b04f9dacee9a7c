//go:build unix

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/clientcert"
)

// startListeners starts a cluster and a shell for docs/listeners.md. No name of the page resolves to
// another host.
func startListeners(t *testing.T) *pageShell {
	t.Helper()
	cluster := startCluster(t, &aurora.Cluster{})
	createApp(t, cluster)
	d := newPageShell(t, cluster, "listeners.md")
	socket := filepath.Join(d.dir, "socket")
	d.page = strings.NewReplacer(
		"/run/iamproxy", socket, "port=6432", "port="+d.port, ":6432", ":"+d.port, "0.0.0.0:5432", "0.0.0.0:"+d.port,
		"10.0.12.0/24", "127.0.0.0/8", "10.0.0.0/16", "127.0.0.0/8",
		"--allow-user 1000,1001", fmt.Sprintf("--allow-user %d", os.Getuid()),
	).Replace(d.page)
	d.env = append(d.env, "PGHOSTADDR=127.0.0.1")
	return d
}

// The commands of docs/listeners.md work as they stand.
func TestListenersPage(t *testing.T) {
	t.Parallel()
	d := startListeners(t)
	d.connect(d.block("--listen localhost:"), d.block("psql", "port="))
	d.connect(d.block("--allow-user"), plainConnect)
	d.connect(d.block("--listen-tls self-signed"), d.block("psql", "sslmode=require"))

	d.run(d.block("openssl", "CN=localhost"))
	verified := d.block("psql", "sslrootcert=cert.pem")
	d.connect(d.block("--listen-tls cert.pem,key.pem --require-tls", "com --listen-tls"), verified)
	d.connect(d.block("--listen 0.0.0.0", "--require-tls"), verified)

	d.env = append(d.env, "PGHOSTADDR=", "PGPORT=")
	d.connect(d.block("--listen unix:"), d.block("psql", "host="+d.dir))
}

// The commands for client certificates work with certificates from a CA.
func TestListenersPageClientCertificates(t *testing.T) {
	t.Parallel()
	d := startListeners(t)
	ca := issue(t, nil, clientcert.CA("clients"))
	server := clientcert.Named("iamproxy.internal")
	server.DNSNames = []string{"iamproxy.internal"}
	d.put("clients.pem", string(clientcert.Encode(ca)))
	d.put("ca.pem", string(clientcert.Encode(ca)))
	for _, pair := range []struct {
		pair      *clientcert.Pair
		cert, key string
	}{
		{issue(t, ca, server), "cert.pem", "key.pem"},
		{issue(t, ca, clientcert.Named("app")), "app.pem", "app.key"},
	} {
		if err := pair.pair.Write(d.dir); err != nil {
			t.Fatal(err)
		}
		for from, to := range map[string]string{clientcert.CertFile: pair.cert, clientcert.KeyFile: pair.key} {
			if err := os.Rename(filepath.Join(d.dir, from), filepath.Join(d.dir, to)); err != nil {
				t.Fatal(err)
			}
		}
	}
	connect := d.block("psql", "sslcert=")
	d.connect(d.block("--client-ca"), connect)
	d.run(d.block("openssl", "CN=localhost"), d.block("openssl", "CN=app"))
	d.connect(d.block("--client-ca"), strings.NewReplacer("iamproxy.internal", "localhost", "ca.pem", "cert.pem").Replace(connect))
}

var sslmodeRow = regexp.MustCompile("(?m)^\\| `([a-z-]+)`[^|]* \\| (\\w+) \\| (\\w+) \\| (\\w+) \\| (\\w+) \\|$")

// The table of sslmodes has what libpq does.
func TestListenersPageSSLModes(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	d := newPageShell(t, cluster, "listeners.md")
	rows := sslmodeRow.FindAllStringSubmatch(d.page, -1)
	if len(rows) != 6 {
		t.Fatalf("%d rows, want 6", len(rows))
	}
	cert, key := filepath.Join(d.dir, "cert.pem"), filepath.Join(d.dir, "key.pem")
	writePair(t, cert, key, "localhost")
	for i, flags := range [][]string{
		nil, {"--listen-tls=self-signed"}, {"--listen-tls=" + cert + "," + key}, {"--listen-tls=" + cert + "," + key, "--require-tls"},
	} {
		p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, flags...)...)
		for _, row := range rows {
			mode, want := row[1], row[2+i]
			root := "/nonexistent"
			if strings.HasPrefix(mode, "verify-") { // with a root, the others verify, too
				root = cert
			}
			_, err := psqlAt(t, fmt.Sprintf("host=localhost hostaddr=127.0.0.1 port=%s user=%s dbname=%s sslmode=%s sslrootcert=%s application_name=%s",
				p.port(), aurora.IAMUser, aurora.Database, mode, root, mode), "select 1")
			got := "rejected"
			if err == nil {
				opened := []string{`"session opened"`, `"application_name":"` + mode + `"`}
				until(t, "the session of "+mode, func() bool { return hasLine(p.logs(), opened...) })
				got = "plaintext"
				if hasLine(p.logs(), append(opened, `"client_tls":"TLS`)...) {
					got = "TLS"
				}
			}
			if got != want {
				t.Errorf("%v: sslmode=%s: %s, the page has %s", flags, mode, got, want)
			}
		}
	}
}

// The command of docs/certificates.md accepts a database whose root is in the file.
func TestCertificatesPage(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	createApp(t, cluster)
	d := newPageShell(t, cluster, "certificates.md")
	roots, err := os.ReadFile(cluster.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	d.put("global-bundle.pem", string(roots))
	d.env = append(d.env, "IAMPROXY_CA_FILE=")
	d.connect(d.block("--ca-file"), plainConnect)
}
