//go:build unix

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

var trustPolicy = regexp.MustCompile("(?ms)^```json\n(.*?pods\\.eks.*?)^```$")

// The commands of docs/kubernetes.md that create the role and check a pod. A shell script replaces
// the AWS CLI, and another one kubectl, which runs the command of the pod here.
func TestKubernetesRole(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	asSuperuser(t, cluster, "CREATE ROLE app LOGIN IN ROLE "+aurora.RDSRole)
	d := newPageShell(t, cluster, "kubernetes.md")
	d.put("trust.json", trustPolicy.FindStringSubmatch(d.page)[1])
	d.put("bin/aws", "#!/bin/sh\nfor arg; do printf '%s\\0' \"$arg\"; done >\"$HOME/aws-$2\"\n")
	d.put("bin/kubectl", "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\n[ \"$2\" = /iamproxy ] && shift 2 && exec iamproxy \"$@\"\n")
	for _, name := range []string{"aws", "kubectl"} {
		if err := os.Chmod(filepath.Join(d.dir, "bin", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lines := append(exports(startReadmeAWS(t)), `export PATH="$HOME/bin:$PATH"`)
	out := d.run(append(lines, d.block("ENDPOINT="), d.block("modify-db-cluster"), d.block("create-role"),
		d.block("create-pod-identity-association"), d.block("kubectl", "check"))...)
	if !regexp.MustCompile(`(?m)^login +ok`).MatchString(out) {
		t.Errorf("check printed %s", out)
	}
	for command, wants := range map[string][]string{
		"modify-db-cluster":               {"rds", "--enable-iam-database-authentication"},
		"create-role":                     {"iam", "app-database", "file://trust.json"},
		"create-pod-identity-association": {"eks", "arn:aws:iam::111122223333:role/app-database"},
	} {
		args := strings.Split(d.read("aws-"+command), "\x00")
		for _, want := range wants {
			if !slices.Contains(args, want) {
				t.Errorf("aws %q, without %s", args, want)
			}
		}
	}
	var policy struct{ Statement []struct{ Action string } }
	args := strings.Split(d.read("aws-put-role-policy"), "\x00")
	if i := slices.Index(args, "--policy-document"); json.Unmarshal([]byte(args[i+1]), &policy) != nil || policy.Statement[0].Action != "rds-db:connect" {
		t.Errorf("aws %q", args)
	}
}
