//go:build unix

package e2e

import (
	"bytes"
	"io"
	"net"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/internal/check"
	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/conntest"
	"github.com/iamproxy/iamproxy/test/fakeaws"
)

// These cases share a cluster. Each has its own fake AWS.
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
		"secret key wrong":           testCheckWrongSecret,
		"through SOCKS":              testCheckSOCKS,
		"keys of a role expired":     testCheckAssumeExpired,
		"no permission to simulate":  testCheckNoSimulation,
		"another account":            testCheckAnotherAccount,
		"policy missing":             testCheckPolicy,
		"wrong region":               testCheckWrongRegion,
		"port closed":                testCheckPortClosed,
		"certificate untrusted":      testCheckUntrusted,
		"user missing":               testCheckUserMissing,
		"rds_iam missing":            testCheckRDSIAMMissing,
		"administrator":              testCheckAdministrator,
		"database missing":           testCheckDatabaseMissing,
		"refused for no reason seen": testCheckRefused,
		"stopped":                    testCheckStopped,
		"interrupted":                testCheckInterrupted,
		"no TLS":                     testCheckNoTLS,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newCheckTest(t, cluster, policies))
		})
	}
}

func testCheckHealthy(t *testing.T, c *checkTest) {
	c.env = append(c.env, "PGSERVICE=none", "PGHOST=127.0.0.1", "PGUSER=nobody", "PGOPTIONS=-c role=nobody", "PGSSLMODE=verify-full", "PGTARGETSESSIONATTRS=standby")
	r := c.run(aurora.IAMUser)
	r.states(nil)
	if r.code != 0 || r.Endpoint != aurora.DefaultHost+":5432" || r.User != aurora.IAMUser || r.Database != aurora.Database {
		t.Errorf("ended with %d: %+v", r.code, r.Report)
	}
	for name, want := range map[string]string{
		check.Endpoint:    "cluster in eu-west-1, port 5432",
		check.Credentials: "from the environment",
		check.Identity:    taskSession,
		check.Clock:       "AWS's clock",
		check.Database:    `cluster "mydb" in account ` + account + ": available, IAM authentication is on",
		check.Policy:      "rds-db:connect is allowed on " + databaseARN(aurora.IAMUser),
		check.DNS:         "not needed (127.0.0.1)",
		check.TCP:         c.cluster.Addr(),
		check.TLS:         "TLS 1.3, certificate by Stand-in RDS Root CA",
		check.Login:       `logged in to database "` + aurora.Database + `", PostgreSQL `,
		check.RDSIAM:      `user "` + aurora.IAMUser + `" is a member`,
		check.Writes:      "writable",
		check.RoundTrip:   " ms (median of 5)",
	} {
		if s := r.step(name); !strings.Contains(s.Found, want) {
			t.Errorf("%s: %q, want %q", name, s.Found, want)
		}
	}

	// As text: one line for each step and one for the verdict, without control characters.
	r = c.print(c.command(append(c.args, "--user="+aurora.IAMUser)...))
	lines := strings.Split(r.stdout, "\n")
	if r.code != 0 || r.stderr != "" || len(lines) != 16 || strings.Contains(r.stdout, "\x1b") || lines[14] != `ok: user "`+aurora.IAMUser+`" can log in to database "`+aurora.Database+`"` {
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
	c.mayConnect(aurora.IAMUser)
	r := c.run(aurora.IAMUser)
	r.states(map[string]check.State{check.Database: check.NotPermitted, check.Policy: check.NotTried})
}

func testCheckNoAnswer(_ *testing.T, c *checkTest) {
	for i, variable := range c.env {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_ENDPOINT_URL_") {
			c.env[i] = name + "=http://127.0.0.1:1"
		}
	}
	r := c.run(aurora.IAMUser)
	r.states(map[string]check.State{check.Identity: check.NoAnswer, check.Clock: check.NoAnswer, check.Database: check.NoAnswer, check.Policy: check.NotTried})
}

// An identity that may describe the database but not read policies still receives the
// missing policy.
func testCheckNoSimulation(t *testing.T, c *checkTest) {
	c.aws.Detach(taskRole)
	c.aws.Allow(taskSession, "rds:DescribeDBClusters")
	r := c.run(aurora.IAMUser)
	r.blames("the likeliest cause is in what could not be checked: policy", "aws iam put-role-policy --role-name task ")
	if role, resource := c.pastePolicy(r.Next); role != "task" || resource != databaseARN(aurora.IAMUser) {
		t.Errorf("the policy is for %s, of %s", role, resource)
	}
}

// No line contains the password of a proxy.
func testCheckSOCKS(t *testing.T, c *checkTest) {
	socks := startSOCKS(t, &socksServer{user: socksUser, password: socksPassword, target: c.cluster.Addr()})
	via := "--via=socks5://socks_user:socks-pass%3Aword%401@" + socks.address()
	r := c.run(aurora.IAMUser, via)
	r.states(map[string]check.State{check.DNS: check.NotTried})
	r = c.run("nobody", via)
	r.blames("the user does not exist", "--via socks5://"+socks.address())
	if strings.Contains(r.stdout, "socks-pass") {
		t.Errorf("the password of the proxy: %s", r.stdout)
	}
}

func testCheckAnotherAccount(_ *testing.T, c *checkTest) {
	const other = "arn:aws:sts::444455556666:assumed-role/task/abc"
	c.is(other)
	c.aws.Allow(other, "rds:DescribeDBClusters", "iam:SimulatePrincipalPolicy")
	r := c.run(aurora.IAMUser)
	r.blames("belongs to another account", "--profile PROFILE_OF_ITS_ACCOUNT")
	r.blames("444455556666", "iamproxy check "+aurora.DefaultHost+" --user "+aurora.IAMUser)
	r.states(untried(map[string]check.State{check.Database: check.Failed, check.Policy: check.NotTried, check.Login: check.Failed}))
}

func testCheckPolicy(t *testing.T, c *checkTest) {
	c.aws.Detach(taskRole)
	c.aws.Allow(taskSession, "rds:DescribeDBClusters", "iam:SimulatePrincipalPolicy")
	r := c.run(aurora.IAMUser)
	r.blames(taskSession+" is not allowed rds-db:connect", "aws iam put-role-policy --role-name task ")
	r.states(untried(map[string]check.State{check.Policy: check.Failed, check.Login: check.Failed}))
	if role, resource := c.pastePolicy(r.Next); role != "task" || resource != databaseARN(aurora.IAMUser) {
		t.Errorf("the policy is for %s, of %s", role, resource)
	}
	if s := r.step(check.Login); !strings.Contains(s.Found, "authentication failed") || s.Next != r.Next {
		t.Errorf("login: %+v", s)
	}

	// As text, the command is the last line, and alone.
	shown := c.print(c.command(append(c.args, "--user="+aurora.IAMUser)...))
	if end := "\ndo this next:\n" + r.Next + "\nmore: " + r.More + "\n"; shown.code != 1 || shown.stderr != "" || !strings.HasSuffix(shown.stdout, end) {
		t.Errorf("ended with %d, printed %q and %s", shown.code, shown.stderr, shown.stdout)
	}
}

func testCheckWrongRegion(t *testing.T, c *checkTest) {
	r := c.run(aurora.IAMUser, "--region=us-east-1")
	r.blames("wrong region: the database is in eu-west-1 by its name", "leave out --region us-east-1.\niamproxy check "+aurora.DefaultHost+" --user "+aurora.IAMUser)
	r.states(untried(map[string]check.State{check.Endpoint: check.Failed, check.Login: check.Failed}))
	if next := r.step(check.Login).Next; next != r.Next {
		t.Errorf("the next step of login is %q", next)
	}
	if again := c.paste(r.Next); again.code != 0 {
		t.Errorf("%s ended with %d: %s%s", r.Next, again.code, again.stdout, again.stderr)
	}
}

func testCheckPortClosed(t *testing.T, c *checkTest) {
	closed := conntest.ClosedAddress(t)
	r := c.run(aurora.IAMUser, "--via="+closed)
	r.blames("connection refused", "# Nothing is listening on "+closed+" (--via). Start the port forward, or correct --via.")
	r.reason(check.TCP, "dial_refused")
	r.states(untried(map[string]check.State{check.TCP: check.Failed, check.TLS: check.NotTried, check.Login: check.NotTried}))
}

func testCheckUntrusted(_ *testing.T, c *checkTest) {
	c.args = slices.DeleteFunc(c.args, func(arg string) bool { return strings.HasPrefix(arg, "--ca-file") })
	r := c.run(aurora.IAMUser)
	r.blames(`the certificate is not trusted: it was issued by "Stand-in RDS Root CA"`, "# Find out who issued it. ")
	r.reason(check.TLS, "tls_untrusted")
	r.states(untried(map[string]check.State{check.TLS: check.Failed, check.Login: check.NotTried}))
}

func testCheckUserMissing(t *testing.T, c *checkTest) {
	c.mayConnect("newcomer")
	testCheckGrant(t, c, "newcomer")
}

func testCheckRDSIAMMissing(t *testing.T, c *checkTest) {
	asSuperuser(t, c.cluster, "CREATE ROLE old_hand LOGIN PASSWORD 'x'")
	c.mayConnect("old_hand")
	r := c.run("old_hand", "--database=postgres")
	r.blames("the user does not exist, or it is not a member of rds_iam", doNotGrant)
	r.reason(check.Login, "password_requested")
}

// doNotGrant precedes the command that ends password logins of an existing user.
const doNotGrant = "# Check the name of the user: a client that sets none uses its operating system's user name. If the user exists and logs in with a password, do not grant rds_iam, which ends its password logins: create another user. Otherwise run:\n"

// rds_iam is never suggested for the administrator.
func testCheckAdministrator(_ *testing.T, c *checkTest) {
	c.mayConnect("postgres")
	const want = "# The user is the administrator, whose password logins rds_iam would end. Create another user with:\niamproxy grant " + aurora.DefaultHost + " --user NEW_USER "
	r := c.run("postgres")
	r.blames(`for user "postgres" instead of a token: it is the administrator, which logs in with a password`, want)
	c.aws.AddCluster(fakeaws.Cluster{Endpoint: aurora.DefaultHost, IAM: true, MasterUser: "boss"})
	c.mayConnect("boss")
	c.run("boss").blames(`for user "boss" instead of a token: it is the administrator`, want)
	r = c.run("postgres")
	r.blames("the user does not exist, or it is not a member of rds_iam", doNotGrant+"iamproxy grant "+aurora.DefaultHost+" --user postgres ")
}

// testCheckGrant runs the printed command, which fixes the login.
func testCheckGrant(t *testing.T, c *checkTest, user string) {
	r := c.run(user, "--database=postgres")
	r.blames("the user does not exist, or it is not a member of rds_iam", doNotGrant+"iamproxy grant "+aurora.DefaultHost+" --user "+user)
	r.reason(check.Login, "password_requested")
	r.states(untried(map[string]check.State{check.Login: check.Failed}))
	if granted := c.paste(r.Next); granted.code != 0 || !strings.Contains(granted.stdout, `granted rds_iam to "`+user+`"`) {
		t.Fatalf("%s ended with %d: %s%s", r.Next, granted.code, granted.stdout, granted.stderr)
	}
	c.run(user, "--database=postgres").states(nil)
}

func testCheckDatabaseMissing(_ *testing.T, c *checkTest) {
	r := c.run(aurora.IAMUser, "--database=nowhere")
	r.blames(`database "nowhere" does not exist (3D000)`, "--database")
	r.reason(check.Login, "server_refused")
	r.states(untried(map[string]check.State{check.Login: check.Failed}))
}

// If all that can be checked is correct, check reports what it could not check, and where
// the reason is logged.
func testCheckRefused(t *testing.T, c *checkTest) {
	c.cluster.ExpireKey(c.key.AccessKeyID)
	r := c.run(aurora.IAMUser)
	r.blames("all other checks passed", "aws logs tail /aws/rds/cluster/mydb/iam-db-auth-error --since 15m --region eu-west-1")
	r.reason(check.Login, "token_refused")
	c.aws.Detach(taskRole)
	r = c.run(aurora.IAMUser)
	r.blames("what could not be checked: database, policy", "iamproxy policy "+aurora.DefaultHost+" --user "+aurora.IAMUser+" --account "+account+" --resource-id RESOURCE_ID")
	if !strings.Contains(r.Cause, "authentication failed for user") {
		t.Errorf("cause: %s", r.Cause)
	}
}

func testCheckStopped(_ *testing.T, c *checkTest) {
	c.aws.AddCluster(fakeaws.Cluster{Endpoint: aurora.DefaultHost, IAM: true, Status: "stopped"})
	r := c.run(aurora.IAMUser, "--via=127.0.0.1:1")
	r.blames(`cluster "mydb" in account `+account+" is stopped", "aws rds start-db-cluster --db-cluster-identifier mydb --region eu-west-1")
}

// Servers that do not begin TLS.
func testCheckNoTLS(t *testing.T, c *checkTest) {
	for _, test := range []struct{ answer, reason, cause string }{
		{"N", "tls_not_offered", "does not offer TLS"},
		{"", "connection_closed", "closed the connection"},
		{"HTTP/1.1 400 Bad Request\r\n\r\n", "tls_request_unknown", "answered the request for TLS with 'H'"},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = io.ReadFull(conn, make([]byte, 8)) // the SSLRequest
				_, _ = io.WriteString(conn, test.answer)
				conn.Close()
			}
		}()
		r := c.run(aurora.IAMUser, "--via="+listener.Addr().String())
		r.blames(test.cause, "# ")
		r.reason(check.TLS, test.reason)
	}
}

// A signal ends it in every step.
func testCheckInterrupted(t *testing.T, c *checkTest) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cmd := c.command(append(c.args, "--via="+silent.Addr().String(), "--user="+aurora.IAMUser)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := silent.(*net.TCPListener).SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	conn, err := silent.Accept() // before TLS
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	interrupted := time.Now()
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	keep(t, "check", stderr.String())
	if took := time.Since(interrupted); cmd.ProcessState.ExitCode() != 1 || took > 5*time.Second || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("ended with %d after %v: %s", cmd.ProcessState.ExitCode(), took, stderr.String())
	}
}

// These cases modify the cluster, and run one after the other.
func TestCheckCluster(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	policies := policiesOf(cluster)
	t.Run("IAM authentication off", func(t *testing.T) { testCheckIAMOff(t, newCheckTest(t, cluster, policies)) })
	t.Run("reader", func(t *testing.T) { testCheckReader(t, newCheckTest(t, cluster, policies)) })
	t.Run("certificate", func(t *testing.T) { testCheckCertificate(t, newCheckTest(t, cluster, policies)) })
	t.Run("clock", func(t *testing.T) { testCheckClock(t, newCheckTest(t, cluster, policies)) })
}

func testCheckIAMOff(t *testing.T, c *checkTest) {
	c.aws.AddCluster(fakeaws.Cluster{Endpoint: aurora.DefaultHost})
	if err := c.cluster.SetIAM(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	r := c.run(aurora.IAMUser)
	r.blames("IAM authentication is off", "aws rds modify-db-cluster --db-cluster-identifier mydb --enable-iam-database-authentication --apply-immediately --region eu-west-1")
	r.states(untried(map[string]check.State{check.Database: check.Failed, check.Login: check.Failed}))
	if err := c.cluster.SetIAM(t.Context(), true); err != nil {
		t.Fatal(err)
	}
}

// A standby is sufficient with target=any.
func testCheckReader(t *testing.T, c *checkTest) {
	standby := startCluster(t, &aurora.Cluster{Primary: c.cluster})
	standby.AddKey(c.key)
	c.args = []string{aurora.DefaultHost, "--database=" + aurora.Database, "--via=" + standby.Addr(), "--ca-file=" + standby.CAFile()}
	r := c.run(aurora.IAMUser)
	r.blames(`user "`+aurora.IAMUser+`" can log in, but the instance is read-only`, "\niamproxy check ")
	r.states(map[string]check.State{check.Writes: check.Failed})
	c.args[0] += "?target=any"
	r = c.run(aurora.IAMUser)
	if s := r.step(check.Writes); r.code != 0 || s.Found != "read-only" {
		t.Errorf("ended with %d: %+v", r.code, s)
	}
}

func testCheckCertificate(t *testing.T, c *checkTest) {
	for _, test := range []struct {
		certificate         aurora.Certificate
		reason, cause, next string
	}{
		{aurora.Certificate{Host: "other.example"}, "tls_wrong_name", `the certificate is for "other.example", not for "` + aurora.DefaultHost + `"`, "# Let the port forward lead to this database"},
		{aurora.Certificate{NotAfter: time.Now().Add(-time.Hour)}, "tls_expired", "the certificate is valid only from ", "# If the clock of this machine is right, "},
	} {
		if err := c.cluster.SetCertificate(t.Context(), test.certificate); err != nil {
			t.Fatal(err)
		}
		r := c.run(aurora.IAMUser)
		r.blames(test.cause, test.next)
		r.reason(check.TLS, test.reason)
	}
	if err := c.cluster.SetCertificate(t.Context(), aurora.Certificate{}); err != nil {
		t.Fatal(err)
	}
}

// Aurora DSQL has its own tokens, policies and commands.
func TestCheckDSQL(t *testing.T) {
	t.Parallel()
	const name = "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"
	const arn = "arn:aws:dsql:us-east-1:" + account + ":cluster/abcdefghijklmnopqrstuvwxyz"
	cluster := startCluster(t, &aurora.Cluster{Host: name, Region: "us-east-1", Service: aurora.ServiceDSQL})
	c := newCheckTest(t, cluster, policiesOf(cluster))
	cluster.SetPolicy(func(key, _ string) bool { return c.aws.Permits(key, "dsql:DbConnect", arn) })
	c.args[0], c.args[1] = name, "--database=postgres"
	r := c.run(aurora.IAMUser)
	r.blames(taskSession+" is not allowed dsql:DbConnect on "+arn, "aws iam put-role-policy --role-name task ")
	c.aws.Attach(taskRole, fakeaws.Policy{Actions: []string{"dsql:DbConnect"}, Resources: []string{arn}})
	c.run(aurora.IAMUser).states(map[string]check.State{check.RDSIAM: check.NotTried})
}

// A wrong clock invalidates the token. Only the clock is reported.
func testCheckClock(t *testing.T, c *checkTest) {
	for _, test := range []struct {
		ahead time.Duration
		want  string
	}{
		{10 * time.Minute, " ahead of AWS's clock, so that its tokens are not valid"},
		{-20 * time.Minute, " behind AWS's clock, so that its tokens are not valid"},
	} {
		c.aws.SetClockOffset(-test.ahead)
		c.cluster.SetClock(func() time.Time { return time.Now().Add(-test.ahead) })
		r := c.run(aurora.IAMUser)
		r.blames(test.want, "")
		r.states(untried(map[string]check.State{check.Clock: check.Failed, check.Login: check.Failed}))
		if runtime.GOOS == "linux" && r.Next != "sudo chronyc makestep" {
			t.Errorf("next: %s", r.Next)
		}
	}
	c.aws.SetFault(fakeaws.Fault{Only: fakeaws.STS, Cut: true}) // the other services have the time, too
	r := c.run(aurora.IAMUser)
	r.blames(" behind AWS's clock, so that its tokens are not valid", "")
}

// Without via, the endpoint's name is resolved by the name servers of this host.
func TestCheckName(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	c := newCheckTest(t, cluster, policiesOf(cluster))
	m := newMovingName(t, aurora.DefaultHost)
	_, port, _ := net.SplitHostPort(cluster.Addr())
	command := func(args ...string) *exec.Cmd {
		cmd := m.command(binaryPath(t), append(args, "--ca-file="+cluster.CAFile())...)
		cmd.Env = c.env
		return cmd
	}
	run := func(endpoint string) checked {
		return c.read(command("check", endpoint, "--user="+aurora.IAMUser, "--json"))
	}
	m.moveTo("127.0.0.1")
	r := run(aurora.DefaultHost + ":" + port)
	if s := r.step(check.DNS); s.State != check.OK || s.Found != aurora.DefaultHost+", 127.0.0.1 (this host)" {
		t.Errorf("dns: %+v", s)
	}
	r.blames("listens on port 5432, not on "+port, "iamproxy check "+aurora.DefaultHost+" --user "+aurora.IAMUser)

	c.aws.Detach(taskRole)
	r = run(aurora.DefaultHost + ":1")
	r.blames("connection refused", "aws rds describe-db-clusters --db-cluster-identifier mydb --query 'DBClusters[0].[Status,Endpoint,Port]'")
	r.agrees(command(aurora.DefaultHost+":1"), aurora.IAMUser, aurora.Database)
	missing := strings.Replace(aurora.DefaultHost, "mydb", "nodb", 1)
	r = run(missing)
	r.blames(`DNS has no name "nodb.`, "aws rds describe-db-clusters --query ")
	r.agrees(command(missing), aurora.IAMUser, aurora.Database)
	r.states(untried(map[string]check.State{check.Database: check.NotPermitted, check.Policy: check.NotTried, check.DNS: check.Failed,
		check.TCP: check.NotTried, check.TLS: check.NotTried, check.Login: check.NotTried}))
}
