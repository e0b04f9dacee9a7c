//go:build unix

package e2e

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
)

// A source that is down for longer than its credentials live delays logins, and none fails.
func TestSourceDown(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	var all sync.WaitGroup
	for name, fault := range map[string]fakeaws.Fault{
		"errors":   {Status: 500, Body: "internal error"},
		"too many": {Status: 429},
		"garbage":  {Status: 200, Body: "<html>hello</html>"},
		"empty":    {Status: 200},
		"cut off":  {Cut: true},
		"hung":     {Delay: 10 * time.Minute}, // a request is never answered
	} {
		s := newSourceTest(t, cluster)
		s.aws.SetLife(shortLife)
		p := s.start([]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI=" + s.aws.URL() + "/container/x"}, nil)
		all.Go(func() {
			began, broken := time.Now(), false
			err := s.logInFor(p, shortLife*9/4, func() {
				if !broken && time.Since(began) > shortLife/3 { // before the next fetch
					broken = true
					s.aws.SetFault(fault)
					time.AfterFunc(shortLife*4/3, func() { s.aws.SetFault(fakeaws.Fault{}) })
				}
			})
			if err != nil {
				t.Errorf("%s: a login failed: %v", name, err)
			}
			if name != "hung" && !strings.Contains(p.logs(), "could not refresh AWS credentials; using the current ones") {
				t.Errorf("%s: nothing of it in the log", name)
			}
			if n := s.aws.Requests(fakeaws.Container); n > 80 {
				t.Errorf("%s: it was asked %d times", name, n)
			}
		})
	}
	all.Wait()
	late := 0
	for _, v := range cluster.Verdicts() {
		switch {
		case v.OK:
		case v.Reason == aurora.KeyExpired: // in flight, on a busy machine; it was retried
			late++
		default:
			t.Errorf("verdict %+v", v)
		}
	}
	if late > 3 {
		t.Errorf("%d tokens came too late", late)
	}
}

// Without an SSO login, the client receives the command to run. It works without a restart.
func TestSSOLogin(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	for name, form := range map[string]struct{ profile, more, cache string }{
		"session": {"sso_session = corp\n", "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.example/start\n", "corp"},
		"legacy":  {"sso_region = eu-west-1\nsso_start_url = https://corp.example/start\n", "", "https://corp.example/start"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSourceTest(t, cluster)
			env, args := s.sso(form.profile, form.more, form.cache)
			s.loggedIn(form.cache, time.Now().Add(-time.Hour))
			p := s.start(env, args)
			expectRefusal(t, p, aurora.IAMUser, aurora.Database, `the SSO login of profile "dev" has expired`, "HINT:  Run: aws sso login --profile dev, then connect again; iamproxy need not be restarted.")
			s.loggedIn(form.cache, time.Now().Add(time.Hour))
			p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
			until(t, "who signs", func() bool { return strings.Contains(p.logs(), "assumed-role/AWSReservedSSO_Developer_") })

			// The same applies when the portal rejects the login.
			s.aws.AllowSSO("another", account, "Developer")
			q := s.start(env, args)
			expectRefusal(t, q, aurora.IAMUser, aurora.Database, "HINT:  Run: aws sso login --profile dev")
		})
	}
}

// If a role cannot be assumed, the client receives the reason at once. The next login tries
// again.
func TestRoleDenied(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	s := newSourceTest(t, cluster)
	s.aws.AllowRole(fakeaws.Role{ARN: appRole, Trusts: []string{janeUser}, ExternalID: "another"})
	p := s.start(s.janes(), []string{"--assume-role=" + appRole, "--external-id=x-1"})
	if refused := p.refused(aurora.IAMUser, aurora.Database); refused.Code != "28000" ||
		!strings.Contains(refused.Message, "could not assume the role") || !strings.Contains(refused.Message, "AccessDenied") ||
		!strings.Contains(refused.Hint, "trust policy") || !strings.Contains(refused.Hint, "--external-id") {
		t.Errorf("told %s: %s, hint %q", refused.Code, refused.Message, refused.Hint)
	}
	s.aws.AllowRole(fakeaws.Role{ARN: appRole, Trusts: []string{janeUser}, ExternalID: "x-1"})
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	for _, v := range cluster.Verdicts() {
		if !v.OK {
			t.Errorf("verdict %+v", v)
		}
	}
}

// A rejected token is reported with the identity, the region and AWS's message.
func TestRejectionDetails(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	s := newSourceTest(t, cluster)
	s.aws.AllowRole(fakeaws.Role{ARN: appRole, Trusts: []string{janeUser}})
	s.aws.Issued = nil // so that the database rejects it
	s.aws.SetClockOffset(-150 * time.Second)
	// The clock is compared even if the SDK does not correct it.
	p := s.start(append(s.janes(), "AWS_DISABLE_CLOCK_SKEW_CORRECTION=true"), []string{"--assume-role=" + appRole})
	expectRefusal(t, p, aurora.IAMUser, aurora.Database,
		`authentication failed for user "iam_user"`, "HINT: ",
		"arn:aws:sts::"+account+":assumed-role/app/iamproxy", "an assumed role, valid until 20",
		aurora.DefaultHost+`:5432 in eu-west-1 as database user "iam_user".`,
		"HINT:  The clock of this machine is 2m3", "s ahead of AWS's. Synchronize it",
		"rds-db:connect on arn:aws:rds-db:eu-west-1:"+account+":dbuser:RESOURCE_ID/iam_user", "DbClusterResourceId")
	if log := p.logs(); strings.Count(log, "this machine's clock is off") != 1 {
		t.Error("not one warning of the clock in the log")
	}
	for _, v := range cluster.Verdicts() {
		if v.Reason != aurora.UnknownKey {
			t.Errorf("verdict %+v", v)
		}
	}
}

// One process serves the databases of two accounts, with an identity for each.
func TestIdentityPerEndpoint(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	s := newSourceTest(t, cluster)
	s.aws.AllowRole(fakeaws.Role{ARN: appRole, Trusts: []string{janeUser}})
	s.aws.AllowRole(fakeaws.Role{ARN: hubRole, Trusts: []string{janeUser}, ExternalID: "x"})
	s.write("config", "[profile other]\n"+keys(aurora.DefaultKey))
	s.janes()
	host := aurora.DefaultHost
	p := startProxy(t, bareEnvironment("AWS_ENDPOINT_URL_STS="+s.aws.URL()+"/sts", "AWS_CONFIG_FILE="+s.path("config"),
		"AWS_ACCESS_KEY_ID="+jane.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+jane.SecretAccessKey),
		host+"?assume-role="+appRole, host+"?external-id=x&assume-role="+hubRole, host+"?profile=other", host+"?listen=127.0.0.1:0&assume-role="+appRole,
		"--listen=127.0.0.1:0", "--via="+cluster.Addr(), "--ca-file="+cluster.CAFile(), "--log-level=debug")
	var signers []string
	for n, address := range p.listens {
		conninfo := "host=127.0.0.1 user=iam_user dbname=mydb port=" + address[strings.LastIndex(address, ":")+1:]
		if out, err := psqlAt(t, conninfo, "select 1"); err != nil {
			t.Fatalf("endpoint %d: %s", n, out)
		}
		verdicts := cluster.Verdicts()
		signers = append(signers, verdicts[len(verdicts)-1].Claims.AccessKeyID)
	}
	if signers[0] == signers[1] || signers[2] != aurora.DefaultKey.AccessKeyID || signers[3] != signers[0] {
		t.Errorf("signed by %q", signers)
	}
	until(t, "who signs", func() bool {
		return strings.Contains(p.logs(), "assumed-role/hub/iamproxy") && strings.Contains(p.logs(), "assumed-role/app/iamproxy")
	})
}

// Aurora DSQL has tokens of its own, chosen by its name.
func TestDSQL(t *testing.T) {
	t.Parallel()
	const host = "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"
	cluster := startCluster(t, &aurora.Cluster{Host: host, Region: "us-east-1", Service: aurora.ServiceDSQL})
	p := startProxy(t, keyEnvironment(aurora.DefaultSessionKey), host, "--listen=127.0.0.1:0", "--via="+cluster.Addr(), "--ca-file="+cluster.CAFile())
	for user, action := range map[string]string{aurora.AdminUser: "DbConnectAdmin", aurora.IAMUser: "DbConnect"} {
		p.mustPSQL(user, "postgres", "select 1")
		verdicts := cluster.Verdicts()
		if v := verdicts[len(verdicts)-1]; !v.OK || v.Claims.Action != action || v.Claims.Host != host {
			t.Errorf("verdict %+v", v)
		}
	}
	cluster.ExpireKey(aurora.DefaultSessionKey.AccessKeyID)
	expectRefusal(t, p, aurora.IAMUser, "postgres", "HINT: ", "dsql:DbConnect on arn:aws:dsql:us-east-1:ACCOUNT:cluster/abcdefghijklmnopqrstuvwxyz", "AWS IAM GRANT")

	token, err := client(t.Context(), binaryPath(t), "token", host, "--user", "admin").CombinedOutput()
	if err == nil {
		t.Errorf("a token without credentials: %.20s", token)
	}
}

// An explicit region overrides that of the name, with a warning.
func TestExplicitRegion(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{Region: "ap-south-1"})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--region=ap-south-1")...)
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	if !strings.Contains(p.logs(), "another region than the one in the endpoint's name") {
		t.Error("no warning")
	}
}
