//go:build unix

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// The commands of docs/exec.md work as pasted.
func TestExecPage(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	mustExec(t, connectAdmin(t, cluster), "create role app login in role rds_iam")
	d := newPageShell(t, cluster, "exec.md")
	d.env = slices.DeleteFunc(d.env, func(variable string) bool {
		return strings.HasPrefix(variable, "IAMPROXY_LISTEN=") || strings.HasPrefix(variable, "IAMPROXY_ADMIN=")
	})
	for _, block := range []string{d.block("exec", "select current_user'"), d.block("DATABASE_URL=")} {
		if out := d.run(block); !strings.Contains(out, " app\n") {
			t.Errorf("%s\nprinted %s", block, out)
		}
	}
	out := d.run("set -a", d.block("IAMPROXY_USER=app"), "set +a", "iamproxy exec -- psql -c 'select current_user'")
	if !strings.Contains(out, " app\n") {
		t.Errorf("with variables: %s", out)
	}
}
