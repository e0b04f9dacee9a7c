//go:build unix

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
)

// policyTest has the databases of an account, and a user, Jane, that may describe them.
type policyTest struct {
	*sourceTest
	env []string
}

func newPolicyTest(t *testing.T) *policyTest {
	s := newSourceTest(t, &aurora.Cluster{})
	p := &policyTest{s, append(bareEnvironment("AWS_ENDPOINT_URL_STS="+s.aws.URL()+"/sts", "AWS_ENDPOINT_URL_RDS="+s.aws.URL()+"/rds"), s.janes()...)}
	mydb := s.aws.AddCluster(fakeaws.Cluster{Endpoint: aurora.DefaultHost, ResourceID: "cluster-MYDB", IAM: true, Custom: []string{customHost}})
	s.aws.AddGlobalCluster(fakeaws.GlobalCluster{Endpoint: globalHost, Writer: mydb})
	s.aws.AddInstance(fakeaws.Instance{Endpoint: memberHost, Cluster: "mydb"})
	s.aws.AddInstance(fakeaws.Instance{Endpoint: aloneHost, ResourceID: "db-ALONE"})
	s.aws.AddProxy(fakeaws.Proxy{Endpoint: proxyHost, ResourceID: "prx-0a", IAMAuth: []string{"REQUIRED"}})
	s.aws.Allow(janeUser, "rds:DescribeDBClusters", "rds:DescribeDBClusterEndpoints", "rds:DescribeDBInstances", "rds:DescribeDBProxies", "rds:DescribeGlobalClusters")
	s.aws.AddCluster(fakeaws.Cluster{Endpoint: theirHost, ResourceID: "cluster-THEIRS", IAM: true, Account: "444455556666"})
	s.aws.AllowRole(fakeaws.Role{ARN: theirRole, Trusts: []string{janeUser}})
	s.aws.Allow(theirRole, "rds:DescribeDBClusters")
	return p
}

const (
	readerHost = "mydb.cluster-ro-cabcdefghijk.eu-west-1.rds.amazonaws.com"
	customHost = "few.cluster-custom-cabcdefghijk.eu-west-1.rds.amazonaws.com"
	memberHost = "mydb-1.cabcdefghijk.eu-west-1.rds.amazonaws.com"
	aloneHost  = "alone.cabcdefghijk.eu-west-1.rds.amazonaws.com"
	globalHost = "all.global-cabcdefghijk.global.rds.amazonaws.com"
	theirHost  = "theirs.cluster-canother0000.eu-west-1.rds.amazonaws.com"
	theirRole  = "arn:aws:iam::444455556666:role/look"
	proxyHost  = "front.proxy-cabcdefghijk.eu-west-1.rds.amazonaws.com"
)

func (p *policyTest) run(args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), limit)
	defer cancel()
	cmd := client(ctx, binaryPath(p.t), append([]string{"policy"}, args...)...)
	var out, err bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, &out, &err
	_ = cmd.Run()
	keep(p.t, "policy", out.String()+err.String())
	return out.String(), err.String(), cmd.ProcessState.ExitCode()
}

// The name is sufficient if the caller may describe the database.
func TestPolicyLookup(t *testing.T) {
	t.Parallel()
	p := newPolicyTest(t)
	const arn = "arn:aws:rds-db:eu-west-1:" + account + ":dbuser:"
	for name, test := range map[string]struct {
		args []string
		want []string
		note string
	}{
		"cluster":       {[]string{aurora.DefaultHost, "--user=app,b"}, []string{arn + "cluster-MYDB/app", arn + "cluster-MYDB/b"}, ""},
		"names of one":  {[]string{aurora.DefaultHost, readerHost, customHost, "--user=app"}, []string{arn + "cluster-MYDB/app"}, ""},
		"its instance":  {[]string{memberHost, "--user=app"}, []string{arn + "cluster-MYDB/app"}, memberHost + " is an instance of the cluster mydb"},
		"instance":      {[]string{aloneHost, "--user=app"}, []string{arn + "db-ALONE/app"}, "IAM authentication is not enabled on alone"},
		"proxy":         {[]string{proxyHost, "--user=app"}, []string{arn + "prx-0a/app"}, ""},
		"two":           {[]string{aurora.DefaultHost + "?user=app", proxyHost, "--user=b"}, []string{arn + "cluster-MYDB/app", arn + "prx-0a/b"}, ""},
		"global":        {[]string{globalHost + "?region=eu-west-1", "--user=app"}, []string{arn + "cluster-MYDB/app"}, "mydb, the primary cluster of " + globalHost},
		"their account": {[]string{theirHost, "--user=app", "--assume-role=" + theirRole}, []string{strings.Replace(arn, account, "444455556666", 1) + "cluster-THEIRS/app"}, ""},
		"account given": {[]string{aurora.DefaultHost, "--user=app", "--account=" + account}, []string{arn + "cluster-MYDB/app"}, ""},
		"id given":      {[]string{aurora.DefaultHost, "--user=app", "--resource-id=cluster-X"}, []string{arn + "cluster-X/app"}, "account " + account + " is that of the caller"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := p.run(test.args...)
			var document struct{ Statement []struct{ Resource []string } }
			if err := json.Unmarshal([]byte(stdout), &document); code != 0 || err != nil || len(document.Statement) != 1 {
				t.Fatalf("ended with %d, printed %q and %q: %v", code, stdout, stderr, err)
			}
			if got := document.Statement[0].Resource; strings.Join(got, " ") != strings.Join(test.want, " ") {
				t.Errorf("it is for %q, want %q", got, test.want)
			}
			if !strings.Contains(stderr, test.note) || (test.note == "") != (stderr == "") {
				t.Errorf("notes %q, want %q", stderr, test.note)
			}
		})
	}
}

// With the policy attached, its user can log in with a token, and no other user.
func TestPolicyGrantsLogin(t *testing.T) {
	t.Parallel()
	p := newPolicyTest(t)
	startCluster(t, p.cluster)
	p.cluster.AddKey(jane)
	p.cluster.SetPolicy(func(accessKeyID, user string) bool {
		return p.aws.Permits(accessKeyID, "rds-db:connect", "arn:aws:rds-db:eu-west-1:"+account+":dbuser:cluster-MYDB/"+user)
	})
	if out, err := p.logInDirectly(aurora.IAMUser); err == nil {
		t.Errorf("without the policy it printed %q", out)
	}
	stdout, stderr, code := p.run(aurora.DefaultHost, "--user="+aurora.IAMUser)
	var document struct {
		Statement []struct {
			Action   string
			Resource []string
		}
	}
	if err := json.Unmarshal([]byte(stdout), &document); code != 0 || err != nil {
		t.Fatalf("ended with %d, printed %q and %q: %v", code, stdout, stderr, err)
	}
	for _, s := range document.Statement {
		p.aws.Attach(janeUser, fakeaws.Policy{Actions: []string{s.Action}, Resources: s.Resource})
	}
	if out, err := p.logInDirectly(aurora.IAMUser); err != nil || out != "in" {
		t.Errorf("with the policy: %v: %s", err, out)
	}
	if out, err := p.logInDirectly(aurora.OtherUser); err == nil {
		t.Errorf("another user printed %q", out)
	}
}

// logInDirectly logs in with the command token and psql.
func (p *policyTest) logInDirectly(user string) (string, error) {
	p.t.Helper()
	token := client(p.t.Context(), binaryPath(p.t), "token", aurora.DefaultHost, "--user="+user)
	token.Env = p.env
	psql := client(p.t.Context(), "psql", "-X", "-A", "-t", "-c", "select 'in'", directly(p.t, p.cluster, user))
	psql.Env = append(psql.Env, "PGPASSWORD="+tokenOf(p.t, token))
	out, err := combinedOutput(p.t, psql)
	return strings.TrimSpace(string(out)), err
}

func TestPolicyLookupFails(t *testing.T) {
	t.Parallel()
	p := newPolicyTest(t)
	for _, test := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"theirs", []string{theirHost, "--user=app"}, 1, []string{"belongs to another account", "--assume-role", "--account and --resource-id"}},
		{"of the same name", []string{strings.Replace(aurora.DefaultHost, "cabc", "cxyz", 1), "--user=app"}, 1, []string{aurora.DefaultHost, "--assume-role", "--account and --resource-id"}},
		{"no such database", []string{strings.Replace(aurora.DefaultHost, "mydb", "no", 1), "--user=app"}, 1, []string{"--assume-role", "--account and --resource-id"}},
		{"another account given", []string{aurora.DefaultHost, "--user=app", "--account=444455556666"}, 2, []string{"--account 444455556666", "in account " + account}},
	} {
		p.wantFailure(t, test.name, test.args, test.code, test.want...)
	}
	p.aws.Detach(janeUser)
	p.wantFailure(t, "not permitted", []string{aurora.DefaultHost, "--user=app"}, 1, "rds:DescribeDBClusters", "set --account and --resource-id",
		"aws rds --region eu-west-1 describe-db-clusters --db-cluster-identifier mydb --query 'DBClusters[0].DbClusterResourceId'")
	p.env = append(p.env, "AWS_SECRET_ACCESS_KEY=another")
	p.wantFailure(t, "no good keys", []string{aurora.DefaultHost, "--user=app"}, 1, "AWS rejects the credentials", "set --account and --resource-id")
	p.env = append(p.env, "AWS_ENDPOINT_URL_RDS=http://127.0.0.1:1")
	p.wantFailure(t, "unreachable", []string{aurora.DefaultHost, "--user=app"}, 1, "could not reach RDS's API: 127.0.0.1:1: connection refused; or set --account and --resource-id")
	if stdout, stderr, code := p.run(aurora.DefaultHost, "--user=app", "--account=111122223333", "--resource-id=cluster-ABCDEFGHIJKL01234"); code != 0 || stderr != "" || !strings.Contains(stdout, "cluster-ABCDEFGHIJKL01234/app") {
		t.Errorf("with all given it ended with %d, printed %q and %q", code, stdout, stderr)
	}
}

func (p *policyTest) wantFailure(t *testing.T, name string, args []string, code int, wants ...string) {
	t.Helper()
	stdout, stderr, got := p.run(args...)
	if got != code || stdout != "" || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, jane.SecretAccessKey) {
		t.Errorf("%s: ended with %d, printed %q and %q", name, got, stdout, stderr)
	}
	for _, want := range wants {
		if !strings.Contains(stderr, want) {
			t.Errorf("%s: %q is not in %q", name, want, stderr)
		}
	}
}

// The command in the error, which shows the resource id, can be pasted into a shell.
func TestPolicyShowID(t *testing.T) {
	t.Parallel()
	p := newPolicyTest(t)
	p.env = append(p.env, "AWS_ENDPOINT_URL_RDS=http://127.0.0.1:1")
	for name, want := range map[string]string{
		aurora.DefaultHost: "describe-db-clusters|--db-cluster-identifier|mydb|--query|DBClusters[0].DbClusterResourceId|",
		"mydb.cluster-ro-cabcdefghijk.eu-west-1.rds.amazonaws.com": "describe-db-clusters|--db-cluster-identifier|mydb|--query|DBClusters[0].DbClusterResourceId|",
		"few.cluster-custom-cabcdefghijk.eu-west-1.rds.amazonaws.com": "describe-db-clusters|--query|" +
			"DBClusters[?CustomEndpoints] | [?contains(CustomEndpoints, 'few.cluster-custom-cabcdefghijk.eu-west-1.rds.amazonaws.com')].DbClusterResourceId|",
		"mydb-1.cabcdefghijk.eu-west-1.rds.amazonaws.com":                 "describe-db-instances|--db-instance-identifier|mydb-1|--query|DBInstances[0].[DbiResourceId,DBClusterIdentifier]|",
		"front.proxy-cabcdefghijk.eu-west-1.rds.amazonaws.com":            "describe-db-proxies|--query|DBProxies[].[DBProxyName,DBProxyArn]|",
		"g.global-cabcdefghijk.global.rds.amazonaws.com?region=eu-west-1": "describe-db-clusters|--query|DBClusters[].[DBClusterIdentifier,DbClusterResourceId]|",
	} {
		_, stderr, _ := p.run(name, "--user=app")
		_, line, found := strings.Cut(strings.TrimSpace(stderr), ": aws ")
		line, _, _ = strings.Cut("aws "+line, " (") // an explanation
		if !found {
			t.Errorf("%s: no command in %s", name, stderr)
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", `aws() { printf '%s|' "$@"; }; `+line).CombinedOutput()
		if err != nil || string(out) != "rds|--region|eu-west-1|"+want {
			t.Errorf("%s is for the AWS CLI %s, %v, want %s", line, out, err, want)
		}
	}
}
