//go:build unix

package e2e

import (
	"regexp"
	"slices"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

var trustPolicy = regexp.MustCompile("(?ms)^```json\n(.*?pods\\.eks.*?)^```$")

// The commands of docs/kubernetes.md that create the role and check a pod. A shell script replaces
// the AWS CLI, and another one kubectl, which runs the command of the pod here.
func TestKubernetesRole(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	createApp(t, cluster)
	d := newPageShell(t, cluster, "kubernetes.md")
	d.put("trust.json", trustPolicy.FindStringSubmatch(d.page)[1])
	d.recordAWS()
	d.program("kubectl", `while [ "$1" != -- ]; do shift; done; [ "$2" = /iamproxy ] && shift 2 && exec iamproxy "$@"`)
	d.env = append(d.env, startPageAWS(t)...)
	out := d.run(d.block("ENDPOINT="), d.block("modify-db-cluster"), d.block("create-role"),
		d.block("create-pod-identity-association"), d.block("kubectl", "check"))
	if !regexp.MustCompile(`(?m)^login +ok`).MatchString(out) {
		t.Errorf("check printed %s", out)
	}
	for command, wants := range map[string][]string{
		"modify-db-cluster":               {"rds", "--enable-iam-database-authentication"},
		"create-role":                     {"iam", "app-database", "file://trust.json"},
		"create-pod-identity-association": {"eks", "arn:aws:iam::111122223333:role/app-database"},
	} {
		args := d.awsArguments(command)
		for _, want := range wants {
			if !slices.Contains(args, want) {
				t.Errorf("aws %q, without %s", args, want)
			}
		}
	}
	d.wantLoginPolicy()
}
