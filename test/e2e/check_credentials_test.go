//go:build unix

package e2e

// The cases of TestCheck with wrong credentials.

import (
	"strings"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/internal/check"
	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
)

func testCheckNoCredentials(t *testing.T, c *checkTest) {
	c.env = bareEnvironment(c.services()...)
	r := c.run(aurora.IAMUser)
	r.blames("no AWS credentials", "aws configure sso")
	r.reason(check.Credentials, "no_credentials")
	r.states(untried(map[string]check.State{check.Credentials: check.Failed, check.Identity: check.NotTried, check.Clock: check.NotTried,
		check.Database: check.NotTried, check.Policy: check.NotTried, check.Login: check.NotTried}))
	if s := r.step(check.Login); s.Found != "because of credentials" {
		t.Errorf("login: %q", s.Found)
	}
	c.env = append(c.env, "ECS_CONTAINER_METADATA_URI_V4=http://127.0.0.1:1/v4", "CI=true")
	c.run(aurora.IAMUser).blames("no AWS credentials", "# Set a task role (taskRoleArn) in the task definition.")
}

func testCheckExpired(_ *testing.T, c *checkTest) {
	c.key.Expires = time.Now().Add(-time.Minute)
	c.is(taskSession)
	r := c.run(aurora.IAMUser)
	r.blames("credentials from the environment are expired", `eval "$(aws configure export-credentials --format env --profile PROFILE)"`)
	r.states(untried(map[string]check.State{check.Identity: check.Failed, check.Database: check.NotTried, check.Policy: check.NotTried, check.Login: check.Failed}))
}

func testCheckWrongSecret(_ *testing.T, c *checkTest) {
	c.env = append(c.env, "AWS_SECRET_ACCESS_KEY=another secret")
	r := c.run(aurora.IAMUser)
	r.blames("credentials from the environment are not valid", "aws configure export-credentials")
	r.states(untried(map[string]check.State{check.Identity: check.Failed, check.Database: check.NotTried, check.Policy: check.NotTried, check.Login: check.Failed}))
}

// The keys that assume a role have expired. The role is not to blame.
func testCheckAssumeExpired(t *testing.T, c *checkTest) {
	const role = "arn:aws:iam::" + account + ":role/app"
	c.aws.AllowRole(fakeaws.Role{ARN: role, Trusts: []string{taskRole}})
	c.key.Expires = time.Now().Add(-time.Minute)
	c.is(taskSession)
	r := c.run(aurora.IAMUser, "--assume-role="+role)
	r.blames("the credentials that assume the role, from the environment, have expired (ExpiredToken)", `eval "$(aws configure export-credentials --format env --profile PROFILE)"`)
	r.reason(check.Credentials, "source_credentials_expired")
	if strings.Contains(r.stdout, "RequestID") || strings.Contains(r.stdout, "trust policy") {
		t.Errorf("printed %s", r.stdout)
	}
}

func testCheckSSOExpired(t *testing.T, c *checkTest) {
	s := &sourceTest{t: t, aws: c.aws, cluster: c.cluster, dir: t.TempDir()}
	env, args := s.sso("sso_session = corp\n", "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.example/start\n", "corp")
	s.loggedIn("corp", time.Now().Add(-time.Hour))
	c.env = append(bareEnvironment(c.services()...), env...)
	r := c.run(aurora.IAMUser, args...)
	r.blames(`the SSO login of profile "dev" has expired`, "aws sso login --profile dev")
	r.reason(check.Credentials, "sso_expired")
	if r.Next != "aws sso login --profile dev" {
		t.Errorf("next: %s", r.Next)
	}
}
