//go:build unix

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

const bossSecret = "arn:aws:secretsmanager:eu-west-1:" + account + ":secret:rds!cluster-1-AbCdEf"

// secretTest is a cluster whose administrator's password is in Secrets Manager, where jane
// may read it.
type secretTest struct {
	aws     *fakeaws.AWS
	cluster *aurora.Cluster
	env     []string
}

func startSecretTest(t *testing.T) *secretTest {
	t.Helper()
	s := &secretTest{aws: &fakeaws.AWS{Issued: noteKey}, cluster: startGrantable(t)}
	s.aws.AddKey(jane, janeUser)
	if err := s.aws.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.aws.Close(); err != nil {
			t.Error(err)
		}
	})
	s.aws.Allow(janeUser, "secretsmanager:GetSecretValue")
	s.setSecret(t, adminPassword)
	s.env = append(environmentOf(s.aws), "PGPASSWORD=", "AWS_ACCESS_KEY_ID="+jane.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+jane.SecretAccessKey)
	return s
}

// environmentOf returns the environment that leads the SDK to the fake.
func environmentOf(aws *fakeaws.AWS) []string {
	return []string{"AWS_ENDPOINT_URL_STS=" + aws.URL() + "/sts", "AWS_ENDPOINT_URL_RDS=" + aws.URL() + "/rds",
		"AWS_ENDPOINT_URL_SECRETS_MANAGER=" + aws.URL() + "/secretsmanager"}
}

func (s *secretTest) setSecret(t *testing.T, password string) {
	t.Helper()
	value, err := json.Marshal(map[string]string{"username": "postgres", "password": password})
	if err != nil {
		t.Fatal(err)
	}
	s.aws.SetSecret(fakeaws.Secret{ARN: bossSecret, Value: string(value)})
}

func TestGrantSecret(t *testing.T) {
	t.Parallel()
	s := startSecretTest(t)
	grant(t, s.cluster, s.env, "--user=app", "--admin-secret="+bossSecret).want(t, `created role "app"`, `granted rds_iam to "app"`)
	grant(t, s.cluster, s.env, "--user=app", "--admin-secret="+bossSecret, "--admin-user=postgres").want(t, `"app" already has rds_iam`)
	grant(t, s.cluster, s.env, "--user=app", "--admin-secret="+bossSecret+"x").wantFailure(t, "--admin-secret: secret ", "does not exist in")
	for want, args := range map[string][]string{
		`--admin-user "boss": the secret is for user "postgres"`:                             {"--admin-user=boss"},
		`"postgres" is the administrator: granting it rds_iam would end its password logins`: {"--user=postgres"},
		`--give-up-password must name users of --user, or the administrator "postgres"`:      {"--give-up-password=boss"},
	} {
		g := grant(t, s.cluster, s.env, append(args, "--user=app", "--admin-secret="+bossSecret)...)
		if g.code != 2 || g.stdout != "" || !strings.Contains(g.stderr, want) {
			t.Errorf("got %+v, want %q", g, want)
		}
	}
	s.setSecret(t, "wrong")
	grant(t, s.cluster, s.env, "--user=app", "--admin-secret="+bossSecret).wantFailure(t, "password authentication failed", "check that the secret belongs to this database")
	s.aws.Detach(janeUser)
	grant(t, s.cluster, s.env, "--user=app", "--admin-secret="+bossSecret).wantFailure(t, "secretsmanager:GetSecretValue")
}

// RDS has the ARN of the secret.
func TestGrantManagedSecret(t *testing.T) {
	t.Parallel()
	s := startSecretTest(t)
	grant(t, s.cluster, s.env, "--user=app", "--admin-secret=managed").wantFailure(t, "--admin-secret managed: ", "rds:DescribeDBClusters", "--admin-secret the ARN of the secret")
	s.aws.Allow(janeUser, "rds:DescribeDBClusters")
	s.aws.AddCluster(fakeaws.Cluster{Endpoint: aurora.DefaultHost, Account: account})
	grant(t, s.cluster, s.env, "--user=app", "--admin-secret=managed").wantFailure(t, "RDS manages no secret for mydb", "PGPASSWORD")
	s.aws.AddCluster(fakeaws.Cluster{Endpoint: aurora.DefaultHost, Account: account, MasterSecret: bossSecret})
	grant(t, s.cluster, s.env, "--user=app", "--admin-secret=managed").want(t, `created role "app"`, `granted rds_iam to "app"`)
}

// A password that is rotated between the lookup and the login is read once more.
func TestGrantSecretRotates(t *testing.T) {
	t.Parallel()
	s := startSecretTest(t)
	s.setSecret(t, "as it was")
	held := holdNth(t, 1, s.cluster.Addr(), s.cluster.Addr())
	g := startGrant(t, s.cluster, s.env, "--user=app", "--admin-secret="+bossSecret, "--via="+held.address)
	<-held.arrived
	s.setSecret(t, adminPassword)
	close(held.release)
	g.wait(t).want(t, `created role "app"`, `granted rds_iam to "app"`)
	if n := s.aws.Requests(fakeaws.SecretsManager); n != 2 {
		t.Errorf("the secret was asked for %d times", n)
	}
}

// An administrator with rds_iam logs in with a token, and cannot lock itself out.
func TestGrantAdminIAM(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	asSuperuser(t, cluster, "CREATE ROLE boss LOGIN CREATEROLE IN ROLE rds_iam", "CREATE ROLE group_role LOGIN", "GRANT group_role TO boss")
	env := append(keyEnvironment(aurora.DefaultSessionKey), "PGPASSWORD=wrong")
	args := []string{"--admin-iam", "--admin-user=boss"}
	grant(t, cluster, env, append(args, "--user=app,boss")...).want(t, `created role "app"`, `granted rds_iam to "app"`, `"boss" already has rds_iam`)
	if g := grant(t, cluster, env, append(args, "--user=group_role", "--give-up-password=group_role")...); g.code != 0 || g.stdout != "granted rds_iam to \"group_role\"\n" {
		t.Errorf("got %+v", g)
	}
	// The flags for signing are those of run.
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("[p]\naws_access_key_id = "+aurora.DefaultKey.AccessKeyID+"\naws_secret_access_key = "+aurora.DefaultKey.SecretAccessKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	grant(t, cluster, []string{"AWS_SHARED_CREDENTIALS_FILE=" + file}, append(args, "--user=app", "--profile=p")...).want(t, `"app" already has rds_iam`)

	wrong := keyEnvironment(sigv4.Key{AccessKeyID: aurora.DefaultKey.AccessKeyID, SecretAccessKey: "wrong"})
	grant(t, cluster, wrong, append(args, "--user=app")...).wantFailure(t, "authentication failed", "rds-db:connect", "boss")
	grant(t, cluster, nil, append(args, "--user=app", "--timeout=1s")...).wantFailure(t, "no AWS credentials")
}

// A token is sent only when the server requests a password in clear text.
func TestGrantAdminIAMWithoutRDSIAM(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	grant(t, cluster, keyEnvironment(aurora.DefaultKey), "--admin-iam", "--user=app").wantFailure(t, `--admin-iam: "postgres" logs in with a password, not with a token`)
	// Without rds_iam, it is a wrong password.
	grant(t, cluster, []string{"PGPASSWORD=wrong"}, "--user=app").wantFailure(t, "password authentication failed")
	if log, err := cluster.Log(); err != nil || strings.Count(log, "password authentication failed") != 1 {
		t.Errorf("%v; the server got an answer: %s", err, log)
	}
}

// With --give-up-password, the administrator changes to tokens.
func TestGrantGivesUpPassword(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	g := grant(t, cluster, nil, "--user=app,postgres")
	if g.code != 2 || !strings.Contains(g.stderr, "--give-up-password postgres") {
		t.Errorf("got %+v", g)
	}
	args := []string{"--user=app,postgres", "--give-up-password=postgres"}
	g = grant(t, cluster, nil, args...)
	const note = "iamproxy: note: password logins end for \"postgres\": from now on only tokens are accepted\n"
	if g.code != 0 || g.stdout != "created role \"app\"\ngranted rds_iam to \"app\"\ngranted rds_iam to \"postgres\"\n" || g.stderr != note {
		t.Errorf("got %+v", g)
	}
	grant(t, cluster, nil, args...).wantFailure(t, "authentication failed", "a member of rds_iam logs in with a token: --admin-iam")
	grant(t, cluster, keyEnvironment(aurora.DefaultKey), "--user=app,postgres", "--admin-iam").want(t, `"app" already has rds_iam`, `"postgres" already has rds_iam`)
	asSuperuser(t, cluster, "REVOKE rds_iam FROM postgres") // whose password is still valid
	grant(t, cluster, nil, "--user=app").want(t, `"app" already has rds_iam`)
}
