//go:build unix

package e2e

import (
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
)

// TestPolicyPage runs the commands of docs/policy.md that print a policy. Their output is that of
// the page, and what the AWS CLI is given.
func TestPolicyPage(t *testing.T) {
	t.Parallel()
	aws := &fakeaws.AWS{Issued: noteKey}
	if err := aws.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = aws.Close() })
	const caller = "arn:aws:iam::111122223333:user/Jane"
	aws.AddKey(aurora.DefaultSessionKey, caller)
	aws.Allow(caller, "rds:DescribeDBClusters")
	aws.AddCluster(fakeaws.Cluster{Endpoint: aurora.DefaultHost, ResourceID: "cluster-ABCDEFGHIJKL01234", IAM: true})

	d := newPageShell(t, &aurora.Cluster{}, "policy.md")
	d.env = append(d.env, "AWS_ENDPOINT_URL_STS="+aws.URL()+"/sts", "AWS_ENDPOINT_URL_RDS="+aws.URL()+"/rds")
	command := strings.TrimSpace(d.block("iamproxy policy mydb", "--user app\n"))
	for format, language := range map[string]string{"json": "json", "terraform": "hcl", "cdk": "ts"} {
		if out := d.run(command + " --format " + format + " 2>notes"); !strings.Contains(d.page, "```"+language+"\n"+out+"```") {
			t.Errorf("--format %s printed %s", format, out)
		}
	}
	document := d.run(command + " 2>notes")
	if out := d.run(`aws() { shift 7; printf '%s\n' "$1"; }`, d.block("put-role-policy")+"\n"); !strings.HasSuffix(out, document) {
		t.Errorf("the AWS CLI is given %s", out)
	}
}
