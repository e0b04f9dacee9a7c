//go:build unix

package e2e

import (
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// The commands of docs/dsql.md print the policy of the page, and lead to a session.
func TestDSQLPage(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{Host: "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws", Region: "us-east-1", Service: aurora.ServiceDSQL})
	createApp(t, cluster)
	d := newPageShell(t, cluster, "dsql.md")
	_, policy, _ := strings.Cut(d.page, "```json\n")
	policy, _, _ = strings.Cut(policy, "```\n")
	if out := d.run(d.block("iamproxy policy")); out != policy {
		t.Errorf("printed %s", out)
	}
	serve := strings.TrimSpace(d.block("iamproxy abcdefghijklmnopqrstuvwxyz")) + " 2>iamproxy.log &"
	out := d.run(serve, "iamproxy wait", strings.TrimSpace(d.block("psql"))+" -Atc 'select current_user'", "iamproxy shutdown")
	if out != "app\n" {
		t.Errorf("printed %q", out)
	}
}
