//go:build unix

package e2e

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/internal/check"
	"github.com/iamproxy/iamproxy/test/aurora"
)

func TestServerStopsAndComesBack(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--connect-timeout=3s")...)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	session := client(ctx, "psql", "-X", "-w", p.conninfo(aurora.IAMUser, aurora.Database), "-c", "select pg_sleep(600)")
	var out bytes.Buffer
	session.Stdout, session.Stderr = &out, &out
	if err := session.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the session", func() bool { return strings.Contains(p.logs(), `"msg":"session opened"`) })
	if err := cluster.Stop(ctx, aurora.Fast); err != nil {
		t.Fatal(err)
	}
	_ = session.Wait()
	keep(t, "psql", out.String())
	if !strings.Contains(out.String(), "terminating connection due to administrator command") {
		t.Errorf("psql printed %q, want the server's own last words", out.String())
	}
	expectRefusal(t, p, aurora.IAMUser, aurora.Database, "could not connect to "+aurora.DefaultHost, "connection refused", "HINT: ")
	if err := cluster.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
}

func TestUntrustedServers(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	for _, test := range []struct {
		certificate aurora.Certificate
		want        string
	}{
		{aurora.Certificate{OtherCA: true}, "is not trusted"},
		{aurora.Certificate{SelfSigned: true}, "is not trusted"},
		{aurora.Certificate{Host: "other.example"}, `is not for host name "` + aurora.DefaultHost},
		{aurora.Certificate{NotAfter: time.Now().Add(-time.Hour)}, "is not valid now"},
	} {
		if err := cluster.SetCertificate(t.Context(), test.certificate); err != nil {
			t.Fatal(err)
		}
		expectRefusal(t, p, aurora.IAMUser, aurora.Database, test.want)
	}
	if v := cluster.Verdicts(); len(v) != 0 {
		t.Errorf("a token went to a server that had not proved who it was: %+v", v)
	}
	// The built-in roots of RDS do not accept a valid certificate either.
	if err := cluster.SetCertificate(t.Context(), aurora.Certificate{}); err != nil {
		t.Fatal(err)
	}
	builtIn := startProxy(t, keyEnvironment(aurora.DefaultKey), aurora.DefaultHost, "--listen=127.0.0.1:0", "--via="+cluster.Addr())
	expectRefusal(t, builtIn, aurora.IAMUser, aurora.Database, "is not trusted", "--ca-file")
}

// A certificate that names an authority of RDS without a built-in root leads to its bundle, in
// the hint as in check. Any other issuer has to be identified first.
func TestReportRDSRoots(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	c := newCheckTest(t, cluster, policiesOf(cluster))
	builtIn := []string{aurora.DefaultHost, "--database=" + aurora.Database, "--via=" + cluster.Addr()}
	p := startProxy(t, c.env, append(builtIn, "--listen=127.0.0.1:0")...)
	for issuer, want := range map[string]struct{ hint, next string }{
		"Amazon RDS ap-east-2 Root CA RSA2048 G1": {
			"Download https://truststore.pki.rds.amazonaws.com/ap-east-2/ap-east-2-bundle.pem and pass it with --ca-file.",
			"curl -fsSO https://truststore.pki.rds.amazonaws.com/ap-east-2/ap-east-2-bundle.pem && iamproxy check "},
		"Amazon RDS us-gov-west-1 Root CA RSA2048 G2": {
			"If --ca-file is set, leave it out: the roots of RDS in us-gov-west-1 are built in. Otherwise RDS has a newer one. Download https://truststore.pki.us-gov-west-1.rds.amazonaws.com/us-gov-west-1/us-gov-west-1-bundle.pem and pass it with --ca-file.",
			"curl -fsSO https://truststore.pki.us-gov-west-1.rds.amazonaws.com/us-gov-west-1/us-gov-west-1-bundle.pem && iamproxy check "},
		"Example Corp Inspection": {
			`Find out who issued it ("Example Corp Inspection"). If it is your company's TLS inspection, ask to exempt *.rds.amazonaws.com.`,
			"# Find out who issued it. If it is your company's TLS inspection, ask to exempt *.rds.amazonaws.com. Only for a test database, "},
	} {
		if err := cluster.SetCertificate(t.Context(), aurora.Certificate{OtherCA: true, Issuer: issuer}); err != nil {
			t.Fatal(err)
		}
		expectRefusal(t, p, aurora.IAMUser, aurora.Database, "is not trusted", "HINT:  "+want.hint)
		c.args = builtIn
		r := c.run(aurora.IAMUser)
		r.blames(`it was issued by "`+issuer+`"`, want.next)
		r.reason(check.TLS, "tls_untrusted")
	}
	c.args = append(builtIn, "--ca-file="+cluster.CAFile())
	if err := cluster.SetCertificate(t.Context(), aurora.Certificate{OtherCA: true, Issuer: "Amazon RDS eu-west-1 Root CA RSA2048 G1"}); err != nil {
		t.Fatal(err)
	}
	if r := c.run(aurora.IAMUser); strings.Contains(r.Next, "--ca-file") || !strings.HasPrefix(r.Next, "iamproxy check ") {
		t.Errorf("--ca-file is in the way of built-in roots, and next is %s", r.Next)
	}
}

// A file of roots with a byte order mark is read.
func TestReportCAFile(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	roots, err := os.ReadFile(cluster.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(file, append([]byte("\ufeff"), roots...), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), aurora.DefaultHost, "--listen=127.0.0.1:0", "--via="+cluster.Addr(), "--ca-file="+file)
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
}

// Servers that reject TLS, or request the password before it, receive only the SSLRequest.
func TestServersWithoutTLS(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ answer, want string }{
		"declines TLS":             {"N", "does not offer TLS"},
		"asks for the password":    {"R\x00\x00\x00\x08\x00\x00\x00\x03", "answered the request for TLS with 'R'"},
		"accepts, then clear text": {"SR\x00\x00\x00\x08\x00\x00\x00\x03", "could not establish TLS with"},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			seen := make(chan []byte, 100)
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					_, _ = io.WriteString(conn, test.answer)
					all, _ := io.ReadAll(conn)
					conn.Close()
					seen <- all
				}
			}()
			p := startProxy(t, keyEnvironment(aurora.DefaultKey), aurora.DefaultHost, "--listen=127.0.0.1:0", "--via="+listener.Addr().String())
			expectRefusal(t, p, aurora.IAMUser, aurora.Database, test.want)
			sslRequest := []byte{0, 0, 0, 8, 4, 210, 22, 47}
			got := <-seen
			if !bytes.HasPrefix(got, sslRequest) || bytes.Contains(got, []byte(aurora.IAMUser)) || bytes.Contains(got, []byte("Amz")) {
				t.Errorf("the server got %q", got)
			}
			if test.answer[0] != 'S' && !bytes.Equal(got, sslRequest) {
				t.Errorf("the server got %q, want the request for TLS alone", got)
			}
		})
	}
}
