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
	"github.com/iamproxy/iamproxy/test/fakessm"
)

// laptopProfile returns a section of ~/.aws/config.
func laptopProfile(name string) string {
	return "[profile " + name + "]\nregion = eu-west-1\naws_access_key_id = " + aurora.DefaultKey.AccessKeyID +
		"\naws_secret_access_key = " + aurora.DefaultKey.SecretAccessKey + "\n"
}

// newLaptopShell returns a shell for a page, with the profiles dev and billing. Neither the AWS CLI
// nor AWS's Session Manager plugin works there.
func newLaptopShell(t *testing.T, cluster *aurora.Cluster, page string) *pageShell {
	t.Helper()
	d := newPageShell(t, cluster, page)
	d.put("config", laptopProfile("dev")+laptopProfile("billing"))
	d.env = append(d.env, "AWS_CONFIG_FILE="+filepath.Join(d.dir, "config"))
	d.program("aws", "exit 127")
	d.program("session-manager-plugin", "exit 127")
	return d
}

// After the login to AWS, the first blocks of the page lead to a session, and check succeeds.
func TestDeveloperConnects(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	createApp(t, cluster)
	d := newLaptopShell(t, cluster, "developer.md")
	d.env = append(append(d.env, startSessionManager(t, cluster, &fakessm.Gateway{}).variables...), "IAMPROXY_VIA=")
	_, connect, _ := strings.Cut(d.block("aws sso login"), "\n")
	out := d.run(strings.TrimSpace(connect)+" 2>iamproxy.log &", "iamproxy wait",
		"echo 'select current_user' | "+d.block("psql \"host=localhost user=app dbname=mydb\""),
		d.block("iamproxy check"), "iamproxy shutdown")
	if !strings.Contains(out, "app\n") || !strings.Contains(out, "ok: user \"app\" can log in to database \"mydb\"") {
		t.Errorf("printed %q", out)
	}
}

// The endpoints listen at the addresses of the page.
func TestDeveloperSeveralDatabases(t *testing.T) {
	t.Parallel()
	cluster := &aurora.Cluster{} // which is not used
	d := newLaptopShell(t, cluster, "developer.md")
	pair, third := conntest.FreePorts(t, 2), conntest.FreeAddress(t)
	first, second := fmt.Sprintf("127.0.0.1:%d", pair), fmt.Sprintf("127.0.0.1:%d", pair+1)
	d.env = append(append(d.env, startSessionManager(t, cluster, &fakessm.Gateway{}).variables...), "IAMPROXY_VIA=", "IAMPROXY_CA_FILE=", "IAMPROXY_LISTEN="+first)
	start := strings.ReplaceAll(strings.TrimSpace(d.block("--profile dev", "billing")), "127.0.0.1:6000", third)
	d.run(start+" 2>iamproxy.log &", "iamproxy wait", "iamproxy shutdown")
	log, err := os.ReadFile(filepath.Join(d.dir, "iamproxy.log"))
	if err != nil {
		t.Fatal(err)
	}
	for address, host := range map[string]string{
		first:  "mydb.cluster-cabcdefghijk.",
		second: "mydb.cluster-ro-cabcdefghijk.",
		third:  "billing.cluster-cbilling00000.",
	} {
		if !hasLine(string(log), `"listening"`, `"listen":"`+address+`"`, `"endpoint":"`+host) {
			t.Errorf("%s does not listen for %s: %s", address, host, log)
		}
	}
}

// A token is the password of a client that connects to the database itself.
func TestDeveloperToken(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	createApp(t, cluster)
	d := newLaptopShell(t, cluster, "developer.md")
	roots, err := os.ReadFile(cluster.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	d.put("global-bundle.pem", string(roots))
	host, port, _ := net.SplitHostPort(cluster.Addr())
	d.env = append(d.env, "PGHOSTADDR="+host, "PGPORT="+port, "IAMPROXY_VIA=", "IAMPROXY_LISTEN=", "IAMPROXY_CA_FILE=")
	login := strings.TrimSpace(d.block("iamproxy token")) + " -Atc 'select current_user'"
	if out := d.run(login); out != "app\n" {
		t.Errorf("printed %q", out)
	}
}
