//go:build unix

package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// The first steps of docs/developer.md, after the login.
func TestDeveloperConnects(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	asSuperuser(t, cluster, "CREATE ROLE app LOGIN IN ROLE "+aurora.RDSRole)
	f := startForwarders(t, cluster, instance+" eu-west-1 dev")
	d := newPageShell(t, cluster, "developer.md")
	d.put("config", "[profile dev]\nregion = eu-west-1\naws_access_key_id = "+aurora.DefaultKey.AccessKeyID+"\naws_secret_access_key = "+aurora.DefaultKey.SecretAccessKey+"\n")
	path := d.path()
	d.env = append(append(d.env, f.env...), "PATH="+f.dir+":"+path, "HOME="+d.dir, "AWS_CONFIG_FILE="+filepath.Join(d.dir, "config"), "IAMPROXY_VIA=")
	_, connect, _ := strings.Cut(d.block("aws sso login"), "\n")
	out := d.run(strings.TrimSpace(connect)+" 2>iamproxy.log &", "iamproxy wait",
		"echo 'select current_user' | "+d.block("psql \"host=localhost user=app dbname=mydb\""), "iamproxy shutdown")
	if !strings.Contains(out, "app") {
		t.Errorf("psql printed %q", out)
	}
}
