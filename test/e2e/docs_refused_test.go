//go:build unix

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/conntest"
)

// docs/refused.md quotes what psql prints.
func TestRefusedPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/refused.md")
	if err != nil {
		t.Fatal(err)
	}
	cluster := startCluster(t, &aurora.Cluster{})
	plain := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	offersTLS := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--listen-tls=self-signed")...)
	at := func(address, more string) string {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("host=%s port=%s user=%s dbname=%s %s", host, port, aurora.IAMUser, aurora.Database, more)
	}
	noFile := "sslrootcert=" + filepath.Join(t.TempDir(), "root.crt")
	for _, test := range []struct{ conninfo, want string }{
		{at(conntest.ClosedAddress(t), ""), "Connection refused"},
		{at(plain.listens[0], "sslmode=require"), "server does not support SSL, but SSL was required"},
		{at(plain.listens[0], "channel_binding=require"), "channel binding required, but server authenticated client without channel binding"},
		{at(plain.admin(), "sslmode=require"), "received invalid response to SSL negotiation: H"},
		{at(plain.admin(), "sslmode=disable"), "expected authentication request from server, but received H"},
		{at(offersTLS.listens[0], "sslmode=verify-ca sslrootcert="+cluster.CAFile()), "certificate verify failed"},
		{at(offersTLS.listens[0], "sslmode=verify-ca "+noFile), "root certificate file ... does not exist"},
		{at(cluster.Addr(), "sslmode=require user="+aurora.PlainUser), "fe_sendauth: no password supplied"},
	} {
		t.Run(test.want, func(t *testing.T) {
			t.Parallel() // an HTTP server answers only after seconds
			out, err := psqlAt(t, test.conninfo, "select 1")
			if before, after, _ := strings.Cut(test.want, "..."); err == nil || !strings.Contains(out, before) || !strings.Contains(out, after) {
				t.Errorf("%s: psql printed %q", test.conninfo, out)
			}
			if !strings.Contains(string(page), "`"+test.want+"`") {
				t.Error("docs/refused.md does not quote it")
			}
		})
	}
}
