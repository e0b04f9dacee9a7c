//go:build unix

package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
)

// The three commands of the README lead from a cluster without IAM users to the first
// query. Only the start of the second is waited for.
func TestReadmeFirstQuery(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	asSuperuser(t, cluster, "ALTER DATABASE "+aurora.Database+" OWNER TO postgres",
		"DROP ROLE "+strings.Join([]string{aurora.IAMUser, aurora.OtherUser, aurora.AdminUser, aurora.PlainUser}, ", "))
	firstQuery(t, cluster, "export PGPASSWORD="+quoteShell(adminPassword))
}

// With the variables of make standin, they work unchanged.
func TestReadmeFirstQueryAtStandin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	demo, variables := filepath.Join(dir, "demo"), filepath.Join(dir, "build", "standin.env")
	if out, err := exec.Command("go", "build", "-o", demo, "../../test/demo").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), demo, "-standin", variables)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && lines.Text() != "Ctrl-C ends it." {
	}
	firstQuery(t, &aurora.Cluster{}, ". "+quoteShell(variables))

	// It ends with its terminal.
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(variables); !os.IsNotExist(err) {
		t.Errorf("the variables are still there: %v", err)
	}
}

// firstQuery runs the three commands, in a shell that runs a line before.
func firstQuery(t *testing.T, cluster *aurora.Cluster, prepare string) {
	t.Helper()
	d := newPageShell(t, cluster, "../README.md")
	if err := os.Mkdir(filepath.Join(d.dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binaryPath(t), filepath.Join(d.dir, "bin", "iamproxy")); err != nil {
		t.Fatal(err)
	}
	section, _, _ := strings.Cut(d.page, "### When you are refused")
	_, d.page, _ = strings.Cut(section, "## From an untouched cluster to the first query")
	create := d.block("iamproxy grant")
	serve := strings.TrimSpace(d.block("bin/iamproxy mydb")) + " &\nbin/iamproxy wait"
	connect := strings.TrimSpace(d.block("psql")) + " -Atc 'select current_user, current_database()'"
	if out := d.run(prepare, create, serve, connect, "bin/iamproxy shutdown"); !strings.Contains(out, "\napp|mydb\n") {
		t.Errorf("printed %s", out)
	}
}

// The README's command for a rejected login leads to a login that succeeds.
func TestReadmeRejectedLogin(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	aws := &fakeaws.AWS{Issued: noteKey}
	if err := aws.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = aws.Close() })
	const caller = "arn:aws:sts::111122223333:assumed-role/app/session"
	aws.AddKey(aurora.DefaultSessionKey, caller)
	aws.Allow(caller, "rds:DescribeDBClusters", "iam:SimulatePrincipalPolicy", "rds-db:connect")
	aws.AddCluster(fakeaws.Cluster{Endpoint: aurora.DefaultHost, IAM: true})
	d := newPageShell(t, cluster, "../README.md")
	d.env = append(d.env, "AWS_ENDPOINT_URL_STS="+aws.URL()+"/sts", "AWS_ENDPOINT_URL_RDS="+aws.URL()+"/rds", "AWS_ENDPOINT_URL_IAM="+aws.URL()+"/iam",
		"PGPASSWORD="+adminPassword)
	check := strings.ReplaceAll(d.block("iamproxy check"), "bin/iamproxy", "iamproxy")
	refused := strings.Split(d.run("! "+check), "\n")
	i := slices.Index(refused, "do this next:")
	if i < 0 || i+2 >= len(refused) || !strings.HasPrefix(refused[i+1], "# ") {
		t.Fatalf("printed %q", refused)
	}
	if out := d.run(refused[i+2], check); !strings.HasSuffix(out, "ok: user \"app\" can log in to database \"mydb\"\n") {
		t.Errorf("printed %s", out)
	}
}

func quoteShell(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
