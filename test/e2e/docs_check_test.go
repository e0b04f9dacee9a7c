//go:build unix

package e2e

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

var stepOutput = regexp.MustCompile(`(?m)^(\w+(?: trip)?) +ok +\d+ ms  .+$`)

// The commands of docs/check.md work, and print the steps that the page shows.
func TestCheckPage(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	createApp(t, cluster)
	d := newPageShell(t, cluster, "check.md")
	d.env = append(d.env, startPageAWS(t)...)
	d.env = append(d.env, "ENDPOINT="+aurora.DefaultHost)
	names := func(output string) (steps []string) {
		for _, step := range stepOutput.FindAllStringSubmatch(output, -1) {
			steps = append(steps, step[1])
		}
		return steps
	}
	out := d.run(strings.Replace(d.block("--database mydb"), "--profile dev --via localhost:15432", "", 1))
	if shown, got := names(d.page), names(out); len(got) != 13 || !slices.Equal(shown, got) {
		t.Errorf("the page has the steps %q, want %q", shown, got)
	}
	last := `ok: user "app" can log in to database "mydb"` + "\n"
	if !strings.HasSuffix(out, last) || !strings.Contains(d.page, last) {
		t.Errorf("printed %s", out)
	}

	// The reason of a failure is in the JSON, which jq reads if it is installed.
	command, want := strings.Replace(d.block("--json"), "--user app ", "--user missing ", 1), "password_requested\n"
	if _, err := exec.LookPath("jq"); err != nil {
		command, _, _ = strings.Cut(command, "|")
		command, want = fails(command), `"password_requested"`
	}
	if out := d.run(command); !strings.Contains(out, want) {
		t.Errorf("printed %s", out)
	}
}
