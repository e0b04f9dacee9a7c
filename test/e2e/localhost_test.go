//go:build unix

package e2e

import (
	"net"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// A client reaches --listen localhost, the default, at each address that localhost may have for
// it. Clients such as Node.js 17 connect to ::1 only.
func TestReportLocalhost(t *testing.T) {
	t.Parallel()
	probe, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("this host lacks ::1: %v", err)
	}
	probe.Close()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--listen=localhost:0")...)
	if !strings.HasPrefix(p.listens[0], "localhost:") {
		t.Errorf("listens at %s", p.listens[0])
	}
	for _, address := range []string{"127.0.0.1", "::1"} {
		conninfo := strings.Replace(p.conninfo(aurora.IAMUser, aurora.Database), "127.0.0.1", address, 1)
		if out, err := psqlAt(t, conninfo, "select 'in'"); err != nil || out != "in" {
			t.Errorf("at %s: %v: %s", address, err, out)
		}
	}
	if out, err := combinedOutput(t, client(t.Context(), binaryPath(t), "wait", "--admin=off", "--listen="+p.listens[0])); err != nil {
		t.Errorf("wait: %v: %s", err, out)
	}
	if _, metrics := p.get("/metrics"); !strings.Contains(metrics, `listen="`+p.listens[0]+`"`) {
		t.Error("the metrics lack the listener")
	}
}
