//go:build unix

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// TestPolicyPage runs the commands of docs/policy.md that print a policy. Their output is that of
// the page, and an argument of the AWS CLI.
func TestPolicyPage(t *testing.T) {
	t.Parallel()
	d := newPageShell(t, &aurora.Cluster{}, "policy.md")
	d.env = append(d.env, startPageAWS(t)...)
	command := strings.TrimSpace(d.block("iamproxy policy mydb", "--user app\n"))
	for format, language := range map[string]string{"json": "json", "terraform": "hcl", "cdk": "ts"} {
		if out := d.run(command + " --format " + format + " 2>notes"); !strings.Contains(d.page, "```"+language+"\n"+out+"```") {
			t.Errorf("--format %s printed %s", format, out)
		}
	}
	d.recordAWS()
	d.run(d.block("put-role-policy"))
	if args := d.awsArguments("put-role-policy"); !slices.Contains(args, strings.TrimSpace(d.run(command+" 2>notes"))) {
		t.Errorf("aws %q", args)
	}
}
