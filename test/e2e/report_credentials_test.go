//go:build unix

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

// Credentials that STS rejects are reported by the log, the status page, /readyz and the hint
// of a refused token. New ones in a file are noticed without a restart or a login.
func TestReportRejectedCredentials(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	s := newSourceTest(t, cluster)
	s.aws.AddKey(jane, janeUser)
	cluster.AddKey(jane)
	wrong := sigv4.Key{AccessKeyID: jane.AccessKeyID, SecretAccessKey: strings.Repeat("x", 40)}
	s.write("credentials", "[p]\n"+keys(wrong))

	environment := s.start([]string{"AWS_ACCESS_KEY_ID=" + wrong.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + wrong.SecretAccessKey}, []string{"--connect-timeout=2s"})
	profile := s.start([]string{"AWS_SHARED_CREDENTIALS_FILE=" + s.path("credentials")}, []string{"--profile=p", "--connect-timeout=2s"})
	for _, test := range []struct {
		p    *process
		want string
	}{
		{environment, "AWS rejects the credentials from the environment: SignatureDoesNotMatch. Get new ones (aws sso login, or export new keys and restart iamproxy)."},
		{profile, `AWS rejects the credentials from the profile's keys (profile "p"): SignatureDoesNotMatch. Write new keys to the profile, for example with: aws configure --profile p`},
	} {
		until(t, "the warning", func() bool {
			return strings.Contains(test.p.logs(), `"AWS rejects these credentials (SignatureDoesNotMatch). Every login will fail until they are replaced."`)
		})
		if status, body := test.p.get("/readyz"); status != 200 || !strings.Contains(body, test.want) || strings.Contains(body, "valid") || strings.Contains(body, "ok  credentials") {
			t.Errorf("/readyz: %d: %s", status, body)
		}
		if _, body := test.p.get("/"); !strings.Contains(body, "AWS rejects the credentials") || !strings.Contains(body, "rejected by STS") || strings.Contains(body, ">valid") {
			t.Errorf("status page: %s", body)
		}
		if refused := test.p.refused(aurora.IAMUser, aurora.Database); !strings.HasPrefix(refused.Hint, test.want) || strings.Contains(refused.Hint, "rds-db:connect") {
			t.Errorf("hint %q", refused.Hint)
		}
	}

	s.write("credentials", "[p]\n"+keys(jane))
	until(t, "the new keys", func() bool {
		_, body := profile.get("/readyz")
		return strings.Contains(body, "ok  credentials")
	})
	profile.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	if _, body := profile.get("/"); !strings.Contains(body, janeUser) {
		t.Errorf("status page: %s", body)
	}
}

// Credentials that expire while iamproxy runs are found when the database refuses a token,
// although STS has accepted them before. STS that cannot be reached is no alarm.
func TestReportCredentialsExpireLater(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	s := newSourceTest(t, cluster)
	session := sigv4.Key{AccessKeyID: "ASIACOPIED", SecretAccessKey: "a secret of forty characters, as they are", SessionToken: "a copied session token, as of the portal"}
	s.aws.AddKey(session, taskSession)
	cluster.AddKey(session)
	p := s.start([]string{"AWS_ACCESS_KEY_ID=" + session.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + session.SecretAccessKey, "AWS_SESSION_TOKEN=" + session.SessionToken}, []string{"--connect-timeout=2s"})
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	until(t, "the identity", func() bool {
		_, body := p.get("/")
		return strings.Contains(body, taskSession)
	})
	s.aws.ExpireKey(session.AccessKeyID)
	cluster.ExpireKey(session.AccessKeyID)
	until(t, "the rejection by STS", func() bool { // whose last answer counts for a second
		return strings.HasPrefix(p.refused(aurora.IAMUser, aurora.Database).Hint, "AWS rejects the credentials from the environment: ExpiredToken. Get new ones")
	})
	if _, body := p.get("/readyz"); !strings.Contains(body, "ExpiredToken") {
		t.Errorf("/readyz: %s", body)
	}

	s.aws.SetFault(fakeaws.Fault{Status: 503, Only: fakeaws.STS})
	q := s.start(s.janes(), nil)
	cluster.AddKey(jane)
	q.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	until(t, "the answer of STS", func() bool {
		_, body := q.get("/")
		return strings.Contains(body, "unknown: STS did not return it")
	})
	if strings.Contains(q.logs(), "AWS rejects") {
		t.Error("a warning without an answer of STS")
	}
}

// A token for another region than the one of the endpoint's name is the first cause.
func TestReportOtherRegion(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--region=us-east-1", "--connect-timeout=2s")...)
	const want = "The token was signed for us-east-1, but the endpoint is in eu-west-1. Remove --region (or IAMPROXY_REGION), or region= in ENDPOINT."
	if refused := p.refused(aurora.IAMUser, aurora.Database); !strings.HasPrefix(refused.Hint, want) || strings.Contains(refused.Hint, "arn:aws:rds-db:us-east-1") {
		t.Errorf("hint %q", refused.Hint)
	}
}

// Each refusal of STS has a hint about what it means.
func TestReportSTSRefusals(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	s := newSourceTest(t, cluster)
	s.aws.AddKey(jane, janeUser)
	role := s.start(s.janes(), []string{"--assume-role=" + appRole})
	pod := s.start([]string{"AWS_ROLE_ARN=" + appRole, "AWS_WEB_IDENTITY_TOKEN_FILE=" + s.write("web-identity", "a token")}, nil)
	for _, test := range []struct {
		p                             *process
		status                        int
		code, message, reason, advice string
	}{
		{role, 403, "AccessDenied", "User: " + janeUser + " is not authorized to perform: sts:AssumeRole", "role_denied", "(sts:AssumeRole)"},
		{role, 403, "AccessDenied", "Roles may not be assumed by root accounts.", "role_denied", "A root user cannot assume roles."},
		{role, 400, "ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining", "role_request_invalid", "duration_seconds must be 3600 or less"},
		{role, 400, "PackedPolicyTooLarge", "Packed policy consumes 104% of allotted space", "role_policy_refused", "tags"},
		{role, 400, "MalformedPolicyDocument", "Syntax errors in policy.", "role_policy_refused", "policies"},
		{role, 403, "RegionDisabledException", "STS is not activated in this region for account:111122223333.", "sts_region_disabled", "Activate STS"},
		{role, 403, "InvalidClientTokenId", "The security token included in the request is invalid.", "source_credentials_refused", "Get new ones"},
		{pod, 400, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://oidc.eks.eu-west-1.amazonaws.com/id/X", "web_identity_refused", "has an IAM OIDC provider for the issuer"},
		{pod, 400, "InvalidIdentityToken", "Incorrect token audience", "web_identity_refused", "audience"},
		{pod, 403, "IDPRejectedClaim", "rejected", "web_identity_refused", "role's trust policy"},
		{pod, 400, "ExpiredTokenException", "Token expired: current date/time must be before the expiration date/time", "web_identity_expired", "AWS_WEB_IDENTITY_TOKEN_FILE"},
		{pod, 403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", "role_denied", "(sts:AssumeRoleWithWebIdentity)"},
	} {
		s.aws.SetFault(fakeaws.Fault{Status: test.status, Only: fakeaws.STS, Body: fmt.Sprintf(
			"<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>", test.code, test.message)})
		refused := test.p.refused(aurora.IAMUser, aurora.Database)
		if refused.Code != "28000" || !strings.Contains(refused.Message, test.code) || !strings.Contains(refused.Hint, test.advice) ||
			test.reason != "role_denied" && strings.Contains(refused.Hint, "that its trust policy allows") || strings.Contains(refused.Message, "operation error") {
			t.Errorf("%s: %s: %s, hint %q", test.reason, refused.Code, refused.Message, refused.Hint)
		}
		if _, body := test.p.get("/metrics"); !strings.Contains(body, `reason="`+test.reason+`"`) {
			t.Errorf("no reason %s in the metrics", test.reason)
		}
	}
}

// A role that is assumed by a role has sessions of one hour at most. A longer duration_seconds
// does not prevent the login.
func TestReportRoleChainDuration(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	s := newSourceTest(t, cluster)
	s.aws.AddKey(jane, janeUser)
	s.aws.AllowRole(fakeaws.Role{ARN: hubRole, Trusts: []string{janeUser}, ExternalID: "x-1"})
	s.aws.AllowRole(fakeaws.Role{ARN: appRole, Trusts: []string{hubRole}})
	s.write("process.json", fmt.Sprintf(`{"Version": 1, "AccessKeyId": %q, "SecretAccessKey": %q}`, jane.AccessKeyID, jane.SecretAccessKey))
	s.write("config", "[profile base]\ncredential_process = cat "+s.path("process.json")+"\n"+
		"[profile hub]\nrole_arn = "+hubRole+"\nsource_profile = base\nexternal_id = x-1\n"+
		"[profile app]\nrole_arn = "+appRole+"\nsource_profile = hub\nduration_seconds = 43200\n")
	p := s.start([]string{"AWS_CONFIG_FILE=" + s.path("config")}, []string{"--profile=app"})
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
}

// Commands in hints are quoted for a shell and have the profile that is in force.
func TestReportCommandsInHints(t *testing.T) {
	t.Parallel()
	s := newSourceTest(t, startCluster(t, &aurora.Cluster{}))
	s.write("config", "[profile my dev]\nsso_start_url = https://corp.example/start\nsso_region = eu-west-1\nsso_account_id = 1\nsso_role_name = r\n"+
		"[profile dev]\nlogin_session = arn:aws:iam::111122223333:user/u\n")
	for _, test := range []struct{ profile, want string }{
		{"AWS_PROFILE=my dev", "Run: aws sso login --profile 'my dev', then connect again; iamproxy need not be restarted."},
		{"AWS_DEFAULT_PROFILE=dev", "Run: aws login --profile dev, then connect again; iamproxy need not be restarted."},
	} {
		env := []string{"HOME=" + s.dir, "AWS_CONFIG_FILE=" + s.path("config"), test.profile}
		p := s.start(env, nil)
		if refused := p.refused(aurora.IAMUser, aurora.Database); !strings.HasPrefix(refused.Hint, test.want) {
			t.Errorf("%s: hint %q", test.profile, refused.Hint)
		}
		cmd := client(t.Context(), binaryPath(t), "token", aurora.DefaultHost, "--user=u")
		cmd.Env = bareEnvironment(env...)
		out, err := cmd.CombinedOutput()
		command, _, _ := strings.Cut(test.want, ", then")
		if err == nil || !strings.HasSuffix(string(out), ". "+command+"\n") {
			t.Errorf("%s: token printed %q", test.profile, out)
		}
	}
}

// A credential_process may take minutes, as for a person in a browser. Clients get its name
// when their own time is over, no second one is started, and its answer serves later clients.
func TestReportSlowCredentialProcess(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	s := newSourceTest(t, cluster)
	cluster.AddKey(jane)
	fifo := s.path("fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	s.write("config", "[profile p]\ncredential_process = echo >> "+s.path("runs")+"; cat "+fifo+"\n")
	runs := func() int {
		b, _ := os.ReadFile(s.path("runs"))
		return len(b)
	}
	env := []string{"AWS_CONFIG_FILE=" + s.path("config")}
	p := s.start(env, []string{"--profile=p", "--connect-timeout=1s"})
	for range 3 {
		refused := p.refused(aurora.IAMUser, aurora.Database)
		if refused.Code != "57P03" || !strings.Contains(refused.Message, `credential_process of profile "p" has not answered for `) ||
			!strings.Contains(refused.Hint, "browser window or a prompt") || strings.Contains(refused.Hint, "NO_PROXY") {
			t.Errorf("%s: %s, hint %q", refused.Code, refused.Message, refused.Hint)
		}
	}
	if _, body := p.get("/readyz"); !strings.Contains(body, "not ready  credentials") || !strings.Contains(body, "credential_process") {
		t.Errorf("/readyz: %s", body)
	}
	if err := os.WriteFile(fifo, []byte(processOutput(sigv4.Key{AccessKeyID: jane.AccessKeyID, SecretAccessKey: jane.SecretAccessKey, Expires: time.Now().Add(time.Hour)})), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "the credentials", func() bool {
		status, _ := p.get("/readyz")
		return status == 200
	})
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	if n := runs(); n != 1 {
		t.Errorf("%d processes", n)
	}

	// A shutdown ends the process and its descendants.
	q := s.start(env, []string{"--profile=p"})
	until(t, "the next process", func() bool { return runs() == 2 })
	q.signal(syscall.SIGTERM)
	if code := q.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	noReader := func() bool {
		writer, err := os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			writer.Close()
		}
		return errors.Is(err, syscall.ENXIO)
	}
	until(t, "the end of the process", noReader)

	// So does a signal to a command that only prints a token.
	token := exec.Command(binaryPath(t), "token", aurora.DefaultHost, "--user="+aurora.IAMUser, "--profile=p")
	token.Env = bareEnvironment(env...)
	if err := token.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the process of the token", func() bool { return runs() == 3 })
	_ = token.Process.Signal(syscall.SIGTERM)
	_ = token.Wait()
	until(t, "the end of the process of the token", noReader)
}
