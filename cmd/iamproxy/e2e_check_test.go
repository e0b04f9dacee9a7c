//go:build unix

package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/check"
	"github.com/iamproxy/iamproxy/internal/fakeaws"
	"github.com/iamproxy/iamproxy/internal/sigv4"
	"github.com/iamproxy/iamproxy/internal/standin"
)

// taskRole is who signs in these tests, by a session of it.
const (
	taskRole    = "arn:aws:iam::" + account + ":role/task"
	taskSession = "arn:aws:sts::" + account + ":assumed-role/task/abc"
)

// checkTest is a set-up in which all is well, to be broken in one way.
type checkTest struct {
	t       *testing.T
	cluster *standin.Cluster
	aws     *fakeaws.AWS
	key     sigv4.Key
	env     []string
	args    []string // but for check and the user
}

// newCheckTest has a key of its own, which the database and all services know, and with
// which only those may log in whom AWS's policies let.
func newCheckTest(t *testing.T, cluster *standin.Cluster, policies *policies) *checkTest {
	t.Helper()
	c := &checkTest{t: t, cluster: cluster, aws: &fakeaws.AWS{}}
	if err := c.aws.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.aws.Close() })
	c.key = sigv4.Key{AccessKeyID: "ASIA" + rand.Text()[:16], SecretAccessKey: "the secret of " + t.Name(), SessionToken: "the session of " + t.Name()}
	c.is(taskSession)
	policies.ask(c.key.AccessKeyID, c.aws)
	c.aws.AddCluster(fakeaws.Cluster{Endpoint: standin.DefaultHost, IAM: true})
	c.aws.Allow(taskSession, "rds:DescribeDBClusters", "iam:SimulatePrincipalPolicy")
	c.mayConnect(standin.IAMUser)
	c.env = append(keyEnvironment(c.key), c.services()...)
	c.args = []string{standin.DefaultHost, "--database=" + standin.Database, "--via=" + cluster.Addr(), "--ca-file=" + cluster.CAFile()}
	return c
}

// policies are those of several AWSs, for one cluster.
type policies struct {
	mu    sync.Mutex
	byKey map[string]*fakeaws.AWS
}

// policiesOf has the cluster go by them.
func policiesOf(cluster *standin.Cluster) *policies {
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
	return "arn:aws:rds-db:eu-west-1:" + account + ":dbuser:" + fakeaws.ResourceIDOf(standin.DefaultHost) + "/" + user
}

func (c *checkTest) mayConnect(user string) {
	c.aws.Attach(taskRole, fakeaws.Policy{Actions: []string{"rds-db:connect"}, Resources: []string{databaseARN(user)}})
}

// command is the check, in the test's environment.
func (c *checkTest) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(c.t.Context(), binaryPath(c.t), append([]string{"check"}, args...)...)
	cmd.Env = c.env
	return cmd
}

// checked is how a run ended.
type checked struct {
	t              *testing.T
	code           int
	stdout, stderr string
	check.Report
}

// run checks as user and reads the report.
func (c *checkTest) run(user string, more ...string) checked {
	c.t.Helper()
	return c.read(c.command(slices.Concat(c.args, more, []string{"--user=" + user, "--json"})...))
}

// read runs a command that prints a report, without any secret in it.
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
	for _, secret := range append([]string{c.key.SecretAccessKey, c.key.SessionToken, adminPassword}, secrets...) {
		if secret != "" && strings.Contains(r.stdout+r.stderr, secret) {
			c.t.Errorf("%q in what it printed: %s%s", secret, r.stdout, r.stderr)
		}
	}
	return r
}

func (r checked) step(name string) check.Step {
	i := slices.IndexFunc(r.Steps, func(s check.Step) bool { return s.Name == name })
	if i < 0 {
		r.t.Fatalf("no step %s: %s", name, r.stdout)
	}
	return r.Steps[i]
}

// states are those of all steps that are not ok.
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

// blames is about a run that has found the cause, and the line that mends it.
func (r checked) blames(cause, next string) {
	r.t.Helper()
	if !strings.Contains(r.Cause, cause) || !strings.Contains(r.Next, next) || r.code != 1 {
		r.t.Errorf("ended with %d\ncause %s\nnext  %s\nwant  %s\nand   %s", r.code, r.Cause, r.Next, cause, next)
	}
}

// untried are the steps behind a login that there was not.
func untried(more map[string]check.State) map[string]check.State {
	for _, name := range []string{check.RDSIAM, check.Writes, check.RoundTrip} {
		more[name] = check.NotTried
	}
	return more
}

// paste runs the line of a report as a shell does, in which iamproxy is the binary.
func (c *checkTest) paste(line string) checked {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "sh", "-c", `iamproxy() { "$0" "$@"; }; `+line, binaryPath(c.t))
	cmd.Env = append(slices.Clone(c.env), "PGPASSWORD="+adminPassword)
	return c.print(cmd)
}

// pastePolicy is what the line that puts a policy would put, and for which role.
func (c *checkTest) pastePolicy(line string) (role, resource string) {
	c.t.Helper()
	out, err := exec.Command("sh", "-c", `aws() { printf '%s\n' "$@"; }; `+line).Output()
	words := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(words) != 8 || words[1] != "put-role-policy" {
		c.t.Fatalf("%s is %q to a shell: %v", line, words, err)
	}
	var document struct {
		Version   string
		Statement []struct{ Effect, Action, Resource string }
	}
	if err := json.Unmarshal([]byte(words[7]), &document); err != nil || len(document.Statement) != 1 ||
		document.Version != "2012-10-17" || document.Statement[0].Effect != "Allow" || document.Statement[0].Action != "rds-db:connect" {
		c.t.Fatalf("%s: %v", words[7], err)
	}
	return words[3], document.Statement[0].Resource
}

// These share a cluster; each has AWS to itself.
func TestCheck(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	policies := policiesOf(cluster)
	for name, test := range map[string]func(*testing.T, *checkTest){
		"healthy":                    testCheckHealthy,
		"nothing may be looked at":   testCheckNotPermitted,
		"AWS does not answer":        testCheckNoAnswer,
		"credentials missing":        testCheckNoCredentials,
		"credentials expired":        testCheckExpired,
		"SSO login expired":          testCheckSSOExpired,
		"another account":            testCheckAnotherAccount,
		"policy missing":             testCheckPolicy,
		"wrong region":               testCheckWrongRegion,
		"port closed":                testCheckPortClosed,
		"certificate untrusted":      testCheckUntrusted,
		"user missing":               testCheckUserMissing,
		"rds_iam missing":            testCheckRDSIAMMissing,
		"database missing":           testCheckDatabaseMissing,
		"refused for no reason seen": testCheckRefused,
		"stopped":                    testCheckStopped,
		"told to end":                testCheckInterrupted,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newCheckTest(t, cluster, policies))
		})
	}
}

func testCheckHealthy(t *testing.T, c *checkTest) {
	r := c.run(standin.IAMUser)
	r.states(nil)
	if r.code != 0 || r.Endpoint != standin.DefaultHost+":5432" || r.User != standin.IAMUser || r.Database != standin.Database {
		t.Errorf("ended with %d: %+v", r.code, r.Report)
	}
	for name, want := range map[string]string{
		check.Endpoint:    "cluster in eu-west-1, port 5432",
		check.Credentials: "from the environment",
		check.Identity:    taskSession,
		check.Clock:       "AWS's",
		check.Database:    "cluster mydb in account " + account + ": available, IAM authentication is on",
		check.Policy:      "rds-db:connect on " + databaseARN(standin.IAMUser),
		check.DNS:         "127.0.0.1 (this host)",
		check.TCP:         c.cluster.Addr(),
		check.TLS:         "TLS 1.3, certificate by Stand-in RDS Root CA",
		check.Login:       "logged in to " + standin.Database + ", PostgreSQL ",
		check.RDSIAM:      standin.IAMUser + " has it",
		check.Writes:      "takes writes",
		check.RoundTrip:   " ms, the median of 5",
	} {
		if s := r.step(name); !strings.Contains(s.Found, want) {
			t.Errorf("%s: %q, want %q", name, s.Found, want)
		}
	}

	// For people: one line for each step and one for the verdict, all plain.
	r = c.print(c.command(append(c.args, "--user="+standin.IAMUser)...))
	lines := strings.Split(r.stdout, "\n")
	if r.code != 0 || r.stderr != "" || len(lines) != 16 || strings.Contains(r.stdout, "\x1b") || lines[14] != "ok: "+standin.IAMUser+" can log in to "+standin.Database {
		t.Errorf("ended with %d, printed %q and %s", r.code, r.stderr, r.stdout)
	}
	form := regexp.MustCompile(`^[a-z_ ]{11}  ok               +[0-9]+ ms  \S`)
	for _, line := range lines[:13] {
		if !form.MatchString(line) {
			t.Errorf("not aligned: %q", line)
		}
	}
}

func testCheckNotPermitted(_ *testing.T, c *checkTest) {
	c.aws.Detach(taskRole)
	c.mayConnect(standin.IAMUser)
	r := c.run(standin.IAMUser)
	r.states(map[string]check.State{check.Database: check.NotPermitted, check.Policy: check.NotTried})
}

func testCheckNoAnswer(_ *testing.T, c *checkTest) {
	for i, variable := range c.env {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_ENDPOINT_URL_") {
			c.env[i] = name + "=http://127.0.0.1:1"
		}
	}
	r := c.run(standin.IAMUser)
	r.states(map[string]check.State{check.Identity: check.NoAnswer, check.Clock: check.NoAnswer, check.Database: check.NoAnswer, check.Policy: check.NotTried})
}

func testCheckNoCredentials(t *testing.T, c *checkTest) {
	c.env = bareEnvironment(c.services()...)
	r := c.run(standin.IAMUser)
	r.blames("no AWS credentials", "aws configure sso")
	r.states(untried(map[string]check.State{check.Credentials: check.Failed, check.Identity: check.NotTried, check.Clock: check.NotTried,
		check.Database: check.NotTried, check.Policy: check.NotTried, check.Login: check.NotTried}))
	if s := r.step(check.Login); s.Found != "because of credentials" {
		t.Errorf("login: %q", s.Found)
	}
}

func testCheckExpired(_ *testing.T, c *checkTest) {
	c.key.Expires = time.Now().Add(-time.Minute)
	c.is(taskSession)
	r := c.run(standin.IAMUser)
	r.blames("credentials from the environment are expired", `eval "$(aws configure export-credentials --format env --profile PROFILE)"`)
	r.states(untried(map[string]check.State{check.Identity: check.Failed, check.Database: check.NotTried, check.Policy: check.NotTried, check.Login: check.Failed}))
}

func testCheckSSOExpired(t *testing.T, c *checkTest) {
	s := &sourceTest{t: t, aws: c.aws, cluster: c.cluster, dir: t.TempDir()}
	env, args := s.sso("sso_session = corp\n", "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.example/start\n", "corp")
	s.loggedIn("corp", time.Now().Add(-time.Hour))
	c.env = append(bareEnvironment(c.services()...), env...)
	r := c.run(standin.IAMUser, args...)
	r.blames("no AWS credentials", "aws sso login --profile dev")
	if r.Next != "aws sso login --profile dev" {
		t.Errorf("next: %s", r.Next)
	}
}

func testCheckAnotherAccount(_ *testing.T, c *checkTest) {
	const other = "arn:aws:sts::444455556666:assumed-role/task/abc"
	c.is(other)
	c.aws.Allow(other, "rds:DescribeDBClusters", "iam:SimulatePrincipalPolicy")
	r := c.run(standin.IAMUser)
	r.blames("of another account", "--profile PROFILE_OF_ITS_ACCOUNT")
	r.blames("444455556666", "iamproxy check "+standin.DefaultHost+" --user "+standin.IAMUser)
	r.states(untried(map[string]check.State{check.Database: check.Failed, check.Policy: check.NotTried, check.Login: check.Failed}))
}

func testCheckPolicy(t *testing.T, c *checkTest) {
	c.aws.Detach(taskRole)
	c.aws.Allow(taskSession, "rds:DescribeDBClusters", "iam:SimulatePrincipalPolicy")
	r := c.run(standin.IAMUser)
	r.blames(taskSession+" is not allowed rds-db:connect", "aws iam put-role-policy --role-name task ")
	r.states(untried(map[string]check.State{check.Policy: check.Failed, check.Login: check.Failed}))
	if role, resource := c.pastePolicy(r.Next); role != "task" || resource != databaseARN(standin.IAMUser) {
		t.Errorf("the policy is for %s, of %s", role, resource)
	}
	if s := r.step(check.Login); !strings.Contains(s.Found, "authentication failed") || s.Next != r.Next {
		t.Errorf("login: %+v", s)
	}

	// For people the line to paste is the last one, and alone.
	shown := c.print(c.command(append(c.args, "--user="+standin.IAMUser)...))
	if lines := strings.Split(strings.TrimSpace(shown.stdout), "\n"); shown.code != 1 || shown.stderr != "" || lines[len(lines)-1] != r.Next {
		t.Errorf("ended with %d, printed %q and %s", shown.code, shown.stderr, shown.stdout)
	}
}

func testCheckWrongRegion(t *testing.T, c *checkTest) {
	r := c.run(standin.IAMUser, "--region=us-east-1")
	r.blames("wrong region: by its name the database is in eu-west-1", "iamproxy check "+standin.DefaultHost+" --user "+standin.IAMUser)
	r.states(untried(map[string]check.State{check.Endpoint: check.Failed, check.Login: check.Failed}))
	if again := c.paste(r.Next); again.code != 0 {
		t.Errorf("%s ended with %d: %s%s", r.Next, again.code, again.stdout, again.stderr)
	}
}

func testCheckPortClosed(t *testing.T, c *checkTest) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	listener.Close()
	r := c.run(standin.IAMUser, "--via="+closed)
	r.blames("connection refused", "start what is to listen at "+closed)
	r.states(untried(map[string]check.State{check.TCP: check.Failed, check.TLS: check.NotTried, check.Login: check.NotTried}))
}

func testCheckUntrusted(t *testing.T, c *checkTest) {
	c.args = slices.DeleteFunc(c.args, func(arg string) bool { return strings.HasPrefix(arg, "--ca-file") })
	r := c.run(standin.IAMUser)
	r.blames("the certificate is not trusted: it was issued by Stand-in RDS Root CA", "--ca-file ROOT_OF_THE_ISSUER.pem")
	r.states(untried(map[string]check.State{check.TLS: check.Failed, check.Login: check.NotTried}))
	if again := c.paste(strings.Replace(r.Next, "ROOT_OF_THE_ISSUER.pem", c.cluster.CAFile(), 1)); again.code != 0 {
		t.Errorf("%s ended with %d: %s%s", r.Next, again.code, again.stdout, again.stderr)
	}
}

func testCheckUserMissing(t *testing.T, c *checkTest) {
	c.mayConnect("newcomer")
	testCheckGrant(t, c, "newcomer")
}

func testCheckRDSIAMMissing(t *testing.T, c *checkTest) {
	asSuperuser(t, c.cluster, "CREATE ROLE old_hand LOGIN PASSWORD 'x'")
	c.mayConnect("old_hand")
	testCheckGrant(t, c, "old_hand")
}

// testCheckGrant: the line that is printed mends it.
func testCheckGrant(t *testing.T, c *checkTest, user string) {
	r := c.run(user, "--database=postgres")
	r.blames(`there is no database user "`+user+`", or it has no rds_iam`, "iamproxy grant "+standin.DefaultHost+" --user "+user)
	r.states(untried(map[string]check.State{check.Login: check.Failed}))
	if granted := c.paste(r.Next); granted.code != 0 || !strings.Contains(granted.stdout, "granted rds_iam to "+user) {
		t.Fatalf("%s ended with %d: %s%s", r.Next, granted.code, granted.stdout, granted.stderr)
	}
	c.run(user, "--database=postgres").states(nil)
}

func testCheckDatabaseMissing(_ *testing.T, c *checkTest) {
	r := c.run(standin.IAMUser, "--database=nowhere")
	r.blames(`database "nowhere" does not exist (3D000)`, "--database")
	r.states(untried(map[string]check.State{check.Login: check.Failed}))
}

// Where all that can be seen is in order, it says what could not, and where the reason is.
func testCheckRefused(t *testing.T, c *checkTest) {
	c.cluster.ExpireKey(c.key.AccessKeyID)
	r := c.run(standin.IAMUser)
	r.blames("all that can be looked at is in order", "aws logs tail /aws/rds/cluster/mydb/iam-db-auth-error --since 15m --region eu-west-1")
	c.aws.Detach(taskRole)
	r = c.run(standin.IAMUser)
	r.blames("what could not be looked at: database, policy", "iamproxy policy "+standin.DefaultHost+" --user "+standin.IAMUser+" --account "+account+" --resource-id RESOURCE_ID")
	if !strings.Contains(r.Cause, "authentication failed for user") {
		t.Errorf("cause: %s", r.Cause)
	}
}

func testCheckStopped(_ *testing.T, c *checkTest) {
	c.aws.AddCluster(fakeaws.Cluster{Endpoint: standin.DefaultHost, IAM: true, Status: "stopped"})
	r := c.run(standin.IAMUser, "--via=127.0.0.1:1")
	r.blames("cluster mydb in account "+account+" is stopped", "aws rds start-db-cluster --db-cluster-identifier mydb --region eu-west-1")
}

// A signal ends it, whatever it waits for.
func testCheckInterrupted(t *testing.T, c *checkTest) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cmd := c.command(append(c.args, "--via="+silent.Addr().String(), "--user="+standin.IAMUser)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := silent.Accept() // it is about to ask for TLS
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	told := time.Now()
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if took := time.Since(told); cmd.ProcessState.ExitCode() != 1 || took > 5*time.Second || !strings.Contains(stderr.String(), "told to end") {
		t.Errorf("ended with %d after %v: %s", cmd.ProcessState.ExitCode(), took, stderr.String())
	}
}

// These change the cluster, which they have to themselves one after the other.
func TestCheckCluster(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &standin.Cluster{})
	policies := policiesOf(cluster)
	t.Run("IAM authentication off", func(t *testing.T) { testCheckIAMOff(t, newCheckTest(t, cluster, policies)) })
	t.Run("reader", func(t *testing.T) { testCheckReader(t, newCheckTest(t, cluster, policies)) })
	t.Run("clock", func(t *testing.T) { testCheckClock(t, newCheckTest(t, cluster, policies)) })
}

func testCheckIAMOff(t *testing.T, c *checkTest) {
	c.aws.AddCluster(fakeaws.Cluster{Endpoint: standin.DefaultHost})
	if err := c.cluster.SetIAM(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	r := c.run(standin.IAMUser)
	r.blames("IAM authentication is off", "aws rds modify-db-cluster --db-cluster-identifier mydb --enable-iam-database-authentication --apply-immediately --region eu-west-1")
	r.states(untried(map[string]check.State{check.Database: check.Failed, check.Login: check.Failed}))
	if err := c.cluster.SetIAM(t.Context(), true); err != nil {
		t.Fatal(err)
	}
}

// A standby is as good as any where nobody wants to write.
func testCheckReader(t *testing.T, c *checkTest) {
	standby := startCluster(t, &standin.Cluster{Primary: c.cluster})
	standby.AddKey(c.key)
	c.args = []string{standin.DefaultHost, "--database=" + standin.Database, "--via=" + standby.Addr(), "--ca-file=" + standby.CAFile()}
	r := c.run(standin.IAMUser)
	r.blames(standin.IAMUser+" can log in, but writes: leads to an instance that takes no writes", "iamproxy check ")
	r.states(map[string]check.State{check.Writes: check.Failed})
	c.args[0] += "?target=any"
	r = c.run(standin.IAMUser)
	if s := r.step(check.Writes); r.code != 0 || s.Found != "reads only" {
		t.Errorf("ended with %d: %+v", r.code, s)
	}
}

// Aurora DSQL has its own tokens, policies and mends.
func TestCheckDSQL(t *testing.T) {
	t.Parallel()
	const name = "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"
	const arn = "arn:aws:dsql:us-east-1:" + account + ":cluster/abcdefghijklmnopqrstuvwxyz"
	cluster := startCluster(t, &standin.Cluster{Host: name, Region: "us-east-1", Service: standin.ServiceDSQL})
	c := newCheckTest(t, cluster, policiesOf(cluster))
	cluster.SetPolicy(func(key, _ string) bool { return c.aws.Permits(key, "dsql:DbConnect", arn) })
	c.args[0], c.args[1] = name, "--database=postgres"
	r := c.run(standin.IAMUser)
	r.blames(taskSession+" is not allowed dsql:DbConnect on "+arn, "aws iam put-role-policy --role-name task ")
	c.aws.Attach(taskRole, fakeaws.Policy{Actions: []string{"dsql:DbConnect"}, Resources: []string{arn}})
	c.run(standin.IAMUser).states(map[string]check.State{check.RDSIAM: check.NotTried})
}

// A clock that is off spoils the token, and nothing that is not the clock's is blamed.
func testCheckClock(t *testing.T, c *checkTest) {
	for _, test := range []struct {
		ahead time.Duration
		want  string
	}{
		{10 * time.Minute, " ahead of AWS's, and tokens from the future and old ones are refused"},
		{-20 * time.Minute, " behind AWS's, and tokens from the future and old ones are refused"},
	} {
		c.aws.SetClockOffset(-test.ahead)
		c.cluster.SetClock(func() time.Time { return time.Now().Add(-test.ahead) })
		r := c.run(standin.IAMUser)
		r.blames(test.want, "")
		r.states(untried(map[string]check.State{check.Clock: check.Failed, check.Login: check.Failed}))
		if runtime.GOOS == "linux" && r.Next != "sudo chronyc makestep" {
			t.Errorf("next: %s", r.Next)
		}
	}
}

// Without a via, the endpoint's own name is looked up, by this host's name servers.
func TestCheckName(t *testing.T) {
	cluster := startCluster(t, &standin.Cluster{})
	c := newCheckTest(t, cluster, policiesOf(cluster))
	m := newMovingName(t, standin.DefaultHost)
	_, port, _ := net.SplitHostPort(cluster.Addr())
	args := []string{"check", "--user=" + standin.IAMUser, "--json", "--ca-file=" + cluster.CAFile()}
	run := func(endpoint string) checked {
		cmd := m.command(binaryPath(t), append(args, endpoint)...)
		cmd.Env = c.env
		return c.read(cmd)
	}
	m.moveTo("127.0.0.1")
	r := run(standin.DefaultHost + ":" + port)
	if s := r.step(check.DNS); s.State != check.OK || s.Found != standin.DefaultHost+", 127.0.0.1 (this host)" {
		t.Errorf("dns: %+v", s)
	}
	r.blames("listens at port 5432, and not at "+port, "iamproxy check "+standin.DefaultHost+" --user "+standin.IAMUser)

	c.aws.Detach(taskRole)
	r = run(strings.Replace(standin.DefaultHost, "mydb", "nodb", 1))
	r.blames("DNS has no nodb.", "aws rds describe-db-clusters --query ")
	r.states(untried(map[string]check.State{check.Database: check.NotPermitted, check.Policy: check.NotTried, check.DNS: check.Failed,
		check.TCP: check.NotTried, check.TLS: check.NotTried, check.Login: check.NotTried}))
}
