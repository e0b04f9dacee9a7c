package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

const dsqlHost = "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"

// offline are the flags that make requests to AWS unnecessary.
var offline = []string{"--account=111122223333", "--resource-id=cluster-ABCDEFGHIJKL01234"}

// With both flags, no credentials and no network are needed.
func TestPolicyOffline(t *testing.T) {
	noAWS(t)
	const database = "arn:aws:rds-db:eu-west-1:111122223333:dbuser:cluster-ABCDEFGHIJKL01234/"
	for _, test := range []struct {
		name string
		args []string
		want []string // Action and Resource of each statement
	}{
		{"one user", append(offline, host, "--user=app"), []string{"rds-db:connect " + database + "app"}},
		{"users", append(offline, host, "--user=app, b", "--user=c,app"), []string{"rds-db:connect " + database + "app " + database + "b " + database + "c"}},
		{"key user", append(offline, host+"?user=app&via=127.0.0.1:1", "--user=other"), []string{"rds-db:connect " + database + "app"}},
		{"special characters", append(offline, host, "--user", `a/b:c "d" é`), []string{"rds-db:connect " + database + `a/b:c "d" é`}},
		{"wildcards", append(offline, host, "--user=*,a?,${aws:username}"), []string{"rds-db:connect " + database + "${*} " + database + "a${?} " + database + "${$}{aws:username}"}},
		{"instance", []string{"a.cabcdefghijk.us-gov-west-1.rds.amazonaws.com", "--user=app", "--account=111122223333", "--resource-id=db-1"},
			[]string{"rds-db:connect arn:aws-us-gov:rds-db:us-gov-west-1:111122223333:dbuser:db-1/app"}},
		{"proxy in China", []string{"p.proxy-cabcdefghijk.rds.cn-north-1.amazonaws.com.cn", "--user=app", "--account=111122223333", "--resource-id=prx-0a"},
			[]string{"rds-db:connect arn:aws-cn:rds-db:cn-north-1:111122223333:dbuser:prx-0a/app"}},
		{"custom host name", append(offline, "db.example.com", "--region=eu-west-1", "--user=app"), []string{"rds-db:connect " + database + "app"}},
		{"DSQL", []string{dsqlHost, "--user=app,admin,b", "--account=111122223333"}, []string{
			"dsql:DbConnect arn:aws:dsql:us-east-1:111122223333:cluster/abcdefghijklmnopqrstuvwxyz",
			"dsql:DbConnectAdmin arn:aws:dsql:us-east-1:111122223333:cluster/abcdefghijklmnopqrstuvwxyz"}},
		{"two DSQL clusters", []string{dsqlHost + "?user=app," + strings.Replace(dsqlHost, "abc", "xyz", 1) + "?user=Ω*", "--account=111122223333"}, []string{
			"dsql:DbConnect arn:aws:dsql:us-east-1:111122223333:cluster/abcdefghijklmnopqrstuvwxyz arn:aws:dsql:us-east-1:111122223333:cluster/xyzdefghijklmnopqrstuvwxyz"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := try(t.Context(), append([]string{"policy"}, test.args...)...)
			var document struct {
				Version   string
				Statement []struct {
					Effect, Action string
					Resource       []string
				}
			}
			if err := json.Unmarshal([]byte(stdout), &document); code != 0 || err != nil || document.Version != "2012-10-17" || !strings.HasSuffix(stdout, "}\n") {
				t.Fatalf("exit code %d, stdout %q, stderr %q: %v", code, stdout, stderr, err)
			}
			var got []string
			for _, s := range document.Statement {
				if s.Effect != "Allow" {
					t.Errorf("effect %q", s.Effect)
				}
				got = append(got, s.Action+" "+strings.Join(s.Resource, " "))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("allows %q, want %q", got, test.want)
			}
			if wildcards := test.name == "wildcards"; strings.Contains(stderr, `iamproxy: note: user "*" is "${*}" in the policy,`) != wildcards || !wildcards && stderr != "" {
				t.Errorf("notes %q", stderr)
			}
		})
	}
}

// With --via ssm://, the policy allows the session, too. The account of a session with other
// credentials is not known.
func TestPolicySession(t *testing.T) {
	noAWS(t)
	for _, test := range []struct {
		name, via string
		more      []string
		target    string // the resource of ssm:StartSession
		note      bool
	}{
		{"instance", "ssm://i-01", nil, "arn:aws:ec2:eu-west-1:111122223333:instance/i-01", false},
		{"other region", "ssm://mi-01?region=us-east-1", nil, "arn:aws:ssm:us-east-1:111122223333:managed-instance/mi-01", false},
		{"other profile", "ssm://i-01?profile=ops", nil, "arn:aws:ec2:eu-west-1:*:instance/i-01", true},
		{"role", "ssm://i-01", []string{"--assume-role=arn:aws:iam::111122223333:role/db"}, "arn:aws:ec2:eu-west-1:*:instance/i-01", true},
		{"other forward", "localhost:15432", nil, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := try(t.Context(), slices.Concat([]string{"policy", host, "--user=app", "--via=" + test.via}, offline, test.more)...)
			if code != 0 || !strings.Contains(stdout, "rds-db:connect") || strings.Contains(stdout, "ssm:StartSession") != (test.target != "") ||
				!strings.Contains(stdout, test.target) || strings.Contains(stderr, "opens the session") != test.note {
				t.Errorf("exit code %d, %s, %s", code, stdout, stderr)
			}
		})
	}
}

func TestPolicyUsage(t *testing.T) {
	noAWS(t)
	proxy := "p.proxy-cabcdefghijk.eu-west-1.rds.amazonaws.com"
	for _, test := range []struct {
		name string
		args []string
		code int
		want string // in the one line on standard error
	}{
		{"no user for one endpoint", append(offline, host, dsqlHost+"?user=b"), 2, "user= in ENDPOINT, for " + host},
		{"long name", append(offline, host, "--user="+strings.Repeat("é", 32)), 2, "at most 63 bytes"},
		{"line break in a name", append(offline, host, "--user=a\nb"), 2, "control characters"},
		{"template of Terraform", append(offline, host, "--user=&{aws:username}", "--format=terraform"), 2, "--format json"},
		{"wildcard in the id", []string{host, "--user=app", "--account=111122223333", "--resource-id=cluster-*"}, 2, "must be"},
		{"one id for two endpoints", append(offline, host+","+strings.Replace(host, "mydb", "other", 1), "--user=app"), 2, "--resource-id belongs to one database"},
		{"id of a cluster for an RDS Proxy", append(offline, proxy, "--user=app"), 2, "of the kind RDS Proxy"},
		{"id of an instance for a cluster", []string{host, "--user=app", "--resource-id=db-1"}, 2, "cannot belong to"},
		{"host is not a name of AWS", append(offline, "db.example.com", "--user=app"), 2, "set --region"},
		{"unknown profile", []string{host, "--user=app", "--profile=nobody"}, 2, "iamproxy: AWS configuration: "},
		{"no credentials for the account", []string{host, "--user=app", "--resource-id=cluster-A"}, 1, "set --account"},
		{"no credentials for DSQL", []string{dsqlHost, "--user=app"}, 1, "set --account"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := try(t.Context(), append([]string{"policy"}, test.args...)...)
			if code != test.code || stdout != "" || !strings.Contains(stderr, test.want) ||
				!strings.HasPrefix(stderr, "iamproxy: ") || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit code %d, stdout %q, stderr %q, want %d and one line with %q", code, stdout, stderr, test.code, test.want)
			}
		})
	}
}
