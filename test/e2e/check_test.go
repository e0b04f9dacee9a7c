//go:build unix

package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/iamproxy/iamproxy/internal/check"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

// taskRole is the role whose session signs in these tests.
const (
	taskRole    = "arn:aws:iam::" + account + ":role/task"
	taskSession = "arn:aws:sts::" + account + ":assumed-role/task/abc"
)

// checkTest is a working set-up, to be broken in one way.
type checkTest struct {
	t       *testing.T
	cluster *aurora.Cluster
	aws     *fakeaws.AWS
	key     sigv4.Key
	env     []string
	args    []string // without check and --user

	compared map[string]bool // reasons for which run was tried, too
}

// newCheckTest returns a set-up with its own key, which the database and all services
// know. The policies decide about logins.
func newCheckTest(t *testing.T, cluster *aurora.Cluster, policies *policies) *checkTest {
	t.Helper()
	c := &checkTest{t: t, cluster: cluster, aws: &fakeaws.AWS{Issued: noteKey}, compared: make(map[string]bool)}
	if err := c.aws.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.aws.Close() })
	c.key = sigv4.Key{AccessKeyID: "ASIA" + rand.Text()[:16], SecretAccessKey: "the secret of " + t.Name(), SessionToken: "the session of " + t.Name()}
	c.is(taskSession)
	policies.ask(c.key.AccessKeyID, c.aws)
	c.aws.AddCluster(fakeaws.Cluster{Endpoint: aurora.DefaultHost, IAM: true})
	c.aws.Allow(taskSession, "rds:DescribeDBClusters", "iam:SimulatePrincipalPolicy")
	c.mayConnect(aurora.IAMUser)
	c.env = append(keyEnvironment(c.key), c.services()...)
	c.args = []string{aurora.DefaultHost, "--database=" + aurora.Database, "--via=" + cluster.Addr(), "--ca-file=" + cluster.CAFile()}
	return c
}

// policies are those of several fakes of AWS, for one cluster.
type policies struct {
	mu    sync.Mutex
	byKey map[string]*fakeaws.AWS
}

// policiesOf makes the cluster apply them.
func policiesOf(cluster *aurora.Cluster) *policies {
	p := &policies{byKey: make(map[string]*fakeaws.AWS)}
	cluster.SetPolicy(p.allow)
	return p
}

func (p *policies) ask(accessKeyID string, aws *fakeaws.AWS) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byKey[accessKeyID] = aws
}

func (p *policies) allow(accessKeyID, user string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	aws := p.byKey[accessKeyID]
	return aws == nil || aws.Permits(accessKeyID, "rds-db:connect", databaseARN(user))
}

func (c *checkTest) services() []string {
	url := c.aws.URL()
	return []string{"AWS_ENDPOINT_URL_STS=" + url + "/sts", "AWS_ENDPOINT_URL_RDS=" + url + "/rds", "AWS_ENDPOINT_URL_IAM=" + url + "/iam",
		"AWS_ENDPOINT_URL_SSO=" + url + "/sso", "AWS_ENDPOINT_URL_SSO_OIDC=" + url + "/oidc"}
}

// is makes the key that of a caller.
func (c *checkTest) is(caller string) {
	c.aws.AddKey(c.key, caller)
	c.cluster.AddKey(c.key)
}

func databaseARN(user string) string {
	return "arn:aws:rds-db:eu-west-1:" + account + ":dbuser:" + fakeaws.ResourceIDOf(aurora.DefaultHost) + "/" + user
}

func (c *checkTest) mayConnect(user string) {
	c.aws.Attach(taskRole, fakeaws.Policy{Actions: []string{"rds-db:connect"}, Resources: []string{databaseARN(user)}})
}

// command returns the command check in the test's environment.
func (c *checkTest) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(c.t.Context(), binaryPath(c.t), append([]string{"check"}, args...)...)
	cmd.Env = c.env
	return cmd
}

// checked is the result of a run.
type checked struct {
	t              *testing.T
	code           int
	stdout, stderr string
	check.Report
}

// run runs check as user and reads the report. If the check fails, it fails unless run rejects
// user for the same cause.
func (c *checkTest) run(user string, more ...string) checked {
	c.t.Helper()
	args := slices.Concat(c.args, more)
	r := c.read(c.command(append(args, "--user="+user, "--json")...))
	if !r.OK && !c.compared[r.Reason] {
		c.compared[r.Reason] = true
		r.agrees(c.serving(args), user, r.Database)
	}
	return r
}

// read runs a command that prints a report, and records its output.
func (c *checkTest) read(cmd *exec.Cmd) checked {
	c.t.Helper()
	r := c.print(cmd)
	if err := json.Unmarshal([]byte(r.stdout), &r.Report); err != nil {
		c.t.Fatalf("no report: %v: %s%s", err, r.stdout, r.stderr)
	}
	if len(r.Steps) != 13 {
		c.t.Errorf("%d steps: %s", len(r.Steps), r.stdout)
	}
	for _, s := range r.Steps {
		if (s.State == check.Failed) != (s.Next != "") {
			c.t.Errorf("%s is %s, and next is %q", s.Name, s.State, s.Next)
		}
	}
	if r.More != text.ReasonURL(r.Reason) {
		c.t.Errorf("reason %q, more %q", r.Reason, r.More)
	}
	if r.stderr != "" || r.OK != (r.code == 0) || r.OK != (r.Cause == "") || r.OK != (r.Next == "") {
		c.t.Errorf("ended with %d, %+v, and printed %q", r.code, r.Report, r.stderr)
	}
	return r
}

func (c *checkTest) print(cmd *exec.Cmd) checked {
	c.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	r := checked{t: c.t, code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	keep(c.t, "check", r.stdout+r.stderr)
	return r
}

func (r checked) step(name string) check.Step {
	i := slices.IndexFunc(r.Steps, func(s check.Step) bool { return s.Name == name })
	if i < 0 {
		r.t.Fatalf("no step %s: %s", name, r.stdout)
	}
	return r.Steps[i]
}

// states returns the states of all steps that are not ok.
func (r checked) states(want map[string]check.State) {
	r.t.Helper()
	for _, s := range r.Steps {
		state, named := want[s.Name]
		if !named {
			state = check.OK
		}
		if s.State != state {
			r.t.Errorf("%s: %s (%s), want %s", s.Name, s.State, s.Found, state)
		}
	}
}

// reason fails unless the step has the reason.
func (r checked) reason(step, want string) {
	r.t.Helper()
	if s := r.step(step); s.Reason != want {
		r.t.Errorf("%s: reason %q, want %q", step, s.Reason, want)
	}
}

// blames fails unless the run has found the cause, and the command that fixes it.
func (r checked) blames(cause, next string) {
	r.t.Helper()
	if !strings.Contains(r.Cause, cause) || !strings.Contains(r.Next, next) || r.code != 1 {
		r.t.Errorf("ended with %d\ncause %s\nnext  %s\nwant  %s\nand   %s", r.code, r.Cause, r.Next, cause, next)
	}
}

// untried are the steps after a login, if there is none.
func untried(more map[string]check.State) map[string]check.State {
	for _, name := range []string{check.RDSIAM, check.Writes, check.RoundTrip} {
		more[name] = check.NotTried
	}
	return more
}

// paste runs the command of a report in a shell in which iamproxy is the binary.
func (c *checkTest) paste(line string) checked {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "sh", "-c", `iamproxy() { "$0" "$@"; }; `+line, binaryPath(c.t))
	cmd.Env = append(slices.Clone(c.env), "PGPASSWORD="+adminPassword)
	return c.print(cmd)
}

// pastePolicy returns the policy of the command that attaches one, and its role.
func (c *checkTest) pastePolicy(line string) (role, resource string) {
	c.t.Helper()
	out, err := exec.Command("sh", "-c", `aws() { printf '%s\n' "$@"; }; `+line).Output()
	words := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(words) != 8 || words[1] != "put-role-policy" {
		c.t.Fatalf("%s is %q to a shell: %v", line, words, err)
	}
	var document struct {
		Version   string
		Statement []struct {
			Effect, Action string
			Resource       []string
		}
	}
	if err := json.Unmarshal([]byte(words[7]), &document); err != nil || len(document.Statement) != 1 ||
		document.Version != "2012-10-17" || document.Statement[0].Effect != "Allow" || document.Statement[0].Action != "rds-db:connect" {
		c.t.Fatalf("%s: %v", words[7], err)
	}
	return words[3], strings.Join(document.Statement[0].Resource, " ")
}
