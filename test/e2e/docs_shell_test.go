//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/conntest"
	"github.com/iamproxy/iamproxy/test/fakeaws"
)

// pageShell is a directory and an environment to run the blocks of a page. They run unchanged, except
// for the addresses of the database and of iamproxy.
type pageShell struct {
	t    *testing.T
	page string // its text
	dir  string // working directory
	bin  string // first in the PATH
	env  []string
	port string // of iamproxy
}

// newPageShell makes a shell with iamproxy on the PATH, which finds the stand-in through the
// environment.
func newPageShell(t *testing.T, cluster *aurora.Cluster, page string) *pageShell {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	d := &pageShell{t: t, page: string(text), dir: t.TempDir(), bin: t.TempDir()}
	if err := os.Symlink(binaryPath(t), filepath.Join(d.bin, "iamproxy")); err != nil {
		t.Fatal(err)
	}
	listen := conntest.FreeAddress(t)
	_, d.port, _ = net.SplitHostPort(listen)
	d.env = append(keyEnvironment(aurora.DefaultSessionKey),
		"PATH="+d.bin+":"+os.Getenv("PATH"), "HOME="+d.dir, "PGPORT="+d.port, "PGPASSFILE=/nonexistent", "LC_ALL=C",
		"IAMPROXY_VIA="+cluster.Addr(), "IAMPROXY_CA_FILE="+cluster.CAFile(),
		"IAMPROXY_LISTEN="+listen, "IAMPROXY_ADMIN="+conntest.FreeAddress(t))
	return d
}

// path returns the PATH of the shell.
func (d *pageShell) path() (path string) {
	for _, variable := range d.env {
		if value, ok := strings.CutPrefix(variable, "PATH="); ok {
			path = value // the last one counts
		}
	}
	return path
}

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// block returns the page's one shell block with all of these words.
func (d *pageShell) block(words ...string) string {
	d.t.Helper()
	var found []string
	for _, block := range shellBlock.FindAllStringSubmatch(d.page, -1) {
		if hasAll(block[1], words) {
			found = append(found, block[1])
		}
	}
	if len(found) != 1 {
		d.t.Fatalf("%d blocks with %q, want 1", len(found), words)
	}
	return strings.ReplaceAll(found[0], "localhost:5432", "localhost:"+d.port)
}

func hasAll(text string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// hasLine reports whether a line of text has all of the words.
func hasLine(text string, words ...string) bool {
	for line := range strings.Lines(text) {
		if hasAll(line, words) {
			return true
		}
	}
	return false
}

// run runs all blocks in one shell, which ends at the first failure. Background processes
// have to end, too.
func (d *pageShell) run(blocks ...string) string {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-euc", strings.Join(blocks, "\n")+"\nwait\n")
	cmd.Dir, cmd.Env = d.dir, d.env
	// The shell's children must end if it fails.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	end := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = end, time.Second
	out, err := combinedOutput(d.t, cmd)
	log, _ := os.ReadFile(filepath.Join(d.dir, "iamproxy.log"))
	keep(d.t, "iamproxy.log", string(log))
	if err != nil {
		_ = end()
		d.t.Fatalf("%v: %s\n%s", err, out, log)
	}
	return string(out)
}

// put writes a file into the working directory.
func (d *pageShell) put(name, text string) {
	d.t.Helper()
	file := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// read returns the content of a file that a block has written.
func (d *pageShell) read(name string) string {
	d.t.Helper()
	content, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		d.t.Fatal(err)
	}
	return string(content)
}

// program puts a shell script on the PATH, in place of a program that need not be installed.
func (d *pageShell) program(name, script string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		d.t.Fatal(err)
	}
}

// recordAWS replaces the AWS CLI with a program that only records its arguments.
func (d *pageShell) recordAWS() {
	d.t.Helper()
	d.program("aws", `for arg; do printf '%s\0' "$arg"; done >"aws-$2"`)
}

// awsArguments returns the arguments of an action that recordAWS recorded.
func (d *pageShell) awsArguments(action string) []string {
	d.t.Helper()
	return strings.Split(strings.TrimSuffix(d.read("aws-"+action), "\x00"), "\x00")
}

// wantLoginPolicy fails unless the AWS CLI got a policy that allows logins.
func (d *pageShell) wantLoginPolicy() {
	d.t.Helper()
	args := d.awsArguments("put-role-policy")
	i := slices.Index(args, "--policy-document") + 1
	var policy struct{ Statement []struct{ Action string } }
	if i == 0 || json.Unmarshal([]byte(args[i]), &policy) != nil || policy.Statement[0].Action != "rds-db:connect" {
		d.t.Errorf("aws %q", args)
	}
}

// plainConnect is the command of many pages.
const plainConnect = `psql "host=localhost user=app dbname=mydb"`

// createApp creates the user of the pages.
func createApp(t *testing.T, cluster *aurora.Cluster) {
	t.Helper()
	asSuperuser(t, cluster, "CREATE ROLE app LOGIN IN ROLE "+aurora.RDSRole)
}

// connect runs a block that starts iamproxy and one that connects, and fails unless the session is
// the one of the page's user.
func (d *pageShell) connect(serve, connect string) {
	d.t.Helper()
	out := d.run(strings.TrimSpace(serve)+" 2>iamproxy.log &", "iamproxy wait",
		strings.TrimSpace(connect)+" -Atc 'select current_user, current_database()'", "iamproxy shutdown")
	if !strings.Contains(out, "app|mydb\n") {
		d.t.Errorf("%s: psql printed %s", serve, out)
	}
}

// startPageAWS starts a fake AWS that has the cluster of the pages, and a role that may log in, and
// returns the variables that lead there.
func startPageAWS(t *testing.T) (variables []string) {
	t.Helper()
	aws := &fakeaws.AWS{Issued: noteKey}
	if err := aws.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = aws.Close() })
	const caller = "arn:aws:sts::111122223333:assumed-role/app/session"
	aws.AddKey(aurora.DefaultSessionKey, caller)
	aws.Allow(caller, "rds:DescribeDBClusters", "rds:ModifyDBCluster", "iam:SimulatePrincipalPolicy", "iam:PutRolePolicy", "rds-db:connect")
	aws.AddCluster(fakeaws.Cluster{Endpoint: aurora.DefaultHost, ResourceID: "cluster-ABCDEFGHIJKL01234", IAM: true})
	return []string{"AWS_REGION=eu-west-1", "AWS_ENDPOINT_URL_STS=" + aws.URL() + "/sts", "AWS_ENDPOINT_URL_RDS=" + aws.URL() + "/rds", "AWS_ENDPOINT_URL_IAM=" + aws.URL() + "/iam"}
}

// fails returns a command that succeeds if another fails. The shell's ! would not end the script.
func fails(command string) string {
	return "if " + strings.TrimSpace(command) + "; then echo must not succeed; exit 1; fi"
}

func quoteShell(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
