//go:build unix

package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// The steps of the README's quick start lead from a cluster without IAM authentication to
// the first query.
func TestReadmeQuickStart(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	asSuperuser(t, cluster, "ALTER DATABASE "+aurora.Database+" OWNER TO postgres",
		"DROP ROLE "+strings.Join([]string{aurora.IAMUser, aurora.OtherUser, aurora.AdminUser, aurora.PlainUser}, ", "))
	d := newPageShell(t, cluster, "../README.md")
	d.env = append(append(d.env, startPageAWS(t)...), "PGPASSWORD="+adminPassword)
	quickStart(t, d)
}

// With the variables of make standin, the steps work unchanged.
func TestReadmeQuickStartAtStandin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	demo, variables := filepath.Join(dir, "demo"), filepath.Join(dir, "build", "standin.env")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", demo, "../../test/demo").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), demo, "-binary", binaryPath(t), "-standin", "-env", variables)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.Contains(lines.Text(), variables) { // the file exists when its name is printed
	}
	quickStart(t, newPageShell(t, &aurora.Cluster{}, "../README.md"), ". "+quoteShell(variables))

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

// quickStart runs the blocks of the quick start in their order, in a shell that runs the
// lines of prepare before.
func quickStart(t *testing.T, d *pageShell, prepare ...string) {
	t.Helper()
	_, section, found := strings.Cut(d.page, "## Quick start\n")
	section, _, ends := strings.Cut(section, "\n## ")
	if !found || !ends {
		t.Fatal("the README has no quick start")
	}
	program, err := os.Executable() // which acts as the AWS CLI
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, filepath.Join(d.bin, "aws")); err != nil {
		t.Fatal(err)
	}
	lines := prepare
	for _, block := range shellBlock.FindAllStringSubmatch(section, -1) {
		line := strings.TrimSpace(block[1])
		switch {
		case strings.HasPrefix(line, "iamproxy mydb"):
			line += " &\niamproxy wait"
		case strings.HasPrefix(line, "psql"):
			line += ` -c "select current_user"`
		}
		lines = append(lines, line)
	}
	out := d.run(append(lines, "iamproxy shutdown")...)

	_, shown, _ := strings.Cut(d.page, `-c "select current_user"`+"\n")
	shown, _, _ = strings.Cut(shown, "```")
	if got := trailingSpace.ReplaceAllString(out, ""); shown == "" || !strings.Contains(got, shown) {
		t.Errorf("printed %s, without %q", got, shown)
	}
}

var trailingSpace = regexp.MustCompile(`(?m) +$`)

// The README's command for a rejected login leads to a login that succeeds.
func TestReadmeRejectedLogin(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	d := newPageShell(t, cluster, "../README.md")
	d.env = append(append(d.env, startPageAWS(t)...), "PGPASSWORD="+adminPassword)
	check := d.block("iamproxy check")
	refused := strings.Split(d.run(fails(check)), "\n")
	i := slices.Index(refused, "do this next:")
	if i < 0 || i+2 >= len(refused) || !strings.HasPrefix(refused[i+1], "# ") {
		t.Fatalf("printed %q", refused)
	}
	if out := d.run(refused[i+2], check); !strings.HasSuffix(out, "ok: user \"app\" can log in to database \"mydb\"\n") {
		t.Errorf("printed %s", out)
	}
}
