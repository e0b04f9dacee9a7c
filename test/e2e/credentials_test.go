//go:build unix

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

func TestSessionToken(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultSessionKey), clusterArgs(cluster)...)
	if out := p.mustPSQL(aurora.IAMUser, aurora.Database, isTLS); out != "t" {
		t.Errorf("psql printed %q", out)
	}
	v := cluster.Verdicts()
	if len(v) != 1 || !v[0].OK || !v[0].Claims.HasSessionToken || v[0].TokenLength < 1500 {
		t.Errorf("verdicts %+v", v)
	}
}

func TestWrongSecret(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	wrong := sigv4.Key{AccessKeyID: aurora.DefaultKey.AccessKeyID, SecretAccessKey: strings.Repeat("x", 40)}
	p := startProxy(t, keyEnvironment(wrong), clusterArgs(cluster)...)
	expectRefusal(t, p, aurora.IAMUser, aurora.Database,
		`authentication failed for user "iam_user"`, "HINT: ", aurora.DefaultHost+":5432 in eu-west-1", "rds-db:connect")
	for _, v := range cluster.Verdicts() {
		if v.Reason != aurora.Signature {
			t.Errorf("verdict %+v", v)
		}
	}
}

func TestNoCredentials(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, bareEnvironment(), clusterArgs(cluster)...)
	expectRefusal(t, p, aurora.IAMUser, aurora.Database, "no AWS credentials", "HINT: ")
	if v := cluster.Verdicts(); len(v) != 0 {
		t.Errorf("verdicts %+v", v)
	}
}

// Keys that change while the proxy runs are reloaded without a failed login.
func TestCredentialsChange(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	dir := t.TempDir()
	write := func(name, format string, args ...any) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file+".new", fmt.Appendf(nil, format, args...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
		return file
	}
	use := func(key sigv4.Key) string {
		return write("credentials.json", `{"Version": 1, "AccessKeyId": %q, "SecretAccessKey": %q, "SessionToken": %q}`,
			key.AccessKeyID, key.SecretAccessKey, key.SessionToken)
	}
	config := write("config", "[profile rotating]\ncredential_process = cat %s\n", use(aurora.DefaultSessionKey))
	p := startProxy(t, append(bareEnvironment(), "AWS_CONFIG_FILE="+config), clusterArgs(cluster, "--profile=rotating")...)
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")

	next := sigv4.Key{AccessKeyID: "ASIANEXT", SecretAccessKey: "next secret", SessionToken: "next session"}
	cluster.AddKey(next)
	use(next)
	cluster.ExpireKey(aurora.DefaultSessionKey.AccessKeyID)
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	v := cluster.Verdicts()
	if len(v) != 3 || v[1].Reason != aurora.KeyExpired || !v[2].OK || v[2].Claims.AccessKeyID != next.AccessKeyID {
		t.Errorf("verdicts %+v, want a refusal and a token of the new key", v)
	}
}

// The output of a credential_process is not repeated.
func TestBrokenCredentialProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	output, config := filepath.Join(dir, "output"), filepath.Join(dir, "config")
	for file, content := range map[string]string{
		output: fmt.Sprintf("A new version is available.\n{\"Version\": 1, \"SecretAccessKey\": %q}\n", aurora.DefaultKey.SecretAccessKey),
		config: "[default]\ncredential_process = cat " + output + "\n",
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := startProxy(t, append(bareEnvironment(), "AWS_CONFIG_FILE="+config), aurora.DefaultHost, "--listen=127.0.0.1:0", "--via=127.0.0.1:1", "--connect-timeout=1s")
	out, err := p.psql(aurora.IAMUser, aurora.Database, "select 1")
	if err == nil || strings.Contains(out, aurora.DefaultKey.SecretAccessKey) {
		t.Errorf("psql printed %q", out)
	}
}
