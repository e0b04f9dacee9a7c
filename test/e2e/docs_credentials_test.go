//go:build unix

package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
)

// The commands of docs/credentials.md sign with the credentials of a profile and of a role.
func TestCredentialsPage(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	createApp(t, cluster)
	s := newSourceTest(t, cluster)
	d := newPageShell(t, cluster, "credentials.md")

	config := s.write("config", "[profile dev]\n"+keys(aurora.DefaultKey))
	env := d.env
	d.env = append(env, "AWS_CONFIG_FILE="+config)
	_, withProfile, _ := strings.Cut(d.block("aws sso login"), "\n")
	d.connect(withProfile, plainConnect)

	// The database accepts the keys of the role, but not those that assume it.
	role := "arn:aws:iam::444455556666:role/app"
	s.aws.AllowRole(fakeaws.Role{ARN: role, Trusts: []string{janeUser}})
	d.env = append(append(env, s.janes()...), "AWS_SESSION_TOKEN=", "AWS_ENDPOINT_URL_STS="+s.aws.URL()+"/sts",
		"AWS_CONFIG_FILE="+filepath.Join(d.dir, "none"))
	d.connect(d.block("NO_PROXY")+d.block("--assume-role"), plainConnect)
}
