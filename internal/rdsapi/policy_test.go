package rdsapi_test

import (
	"reflect"
	"testing"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/rdsapi"
	"github.com/iamproxy/iamproxy/test/fakeaws"
)

var mydb = auth.Resource{Kind: auth.Cluster, Region: region, Account: account, ID: "cluster-MYDB"}

const simulate = "iam:SimulatePrincipalPolicy"

func TestMayConnect(t *testing.T) {
	connect := func(change func(*fakeaws.Policy)) fakeaws.Policy {
		p := fakeaws.Policy{Name: "connect", Actions: []string{"rds-db:connect"}, Resources: []string{mydb.ARN("app")}}
		if change != nil {
			change(&p)
		}
		return p
	}
	for name, test := range map[string]struct {
		policies []fakeaws.Policy
		want     rdsapi.Decision
	}{
		"allowed":        {[]fakeaws.Policy{connect(nil)}, rdsapi.Decision{Allowed: true, By: "policy connect"}},
		"none":           {nil, rdsapi.Decision{}},
		"another user":   {[]fakeaws.Policy{connect(func(p *fakeaws.Policy) { p.Resources = []string{mydb.ARN("other")} })}, rdsapi.Decision{}},
		"any user":       {[]fakeaws.Policy{connect(func(p *fakeaws.Policy) { p.Resources = []string{mydb.ARN("*")} })}, rdsapi.Decision{Allowed: true, By: "policy connect"}},
		"another action": {[]fakeaws.Policy{connect(func(p *fakeaws.Policy) { p.Actions = []string{"rds:connect"} })}, rdsapi.Decision{}},
		"denied": {[]fakeaws.Policy{connect(nil), connect(func(p *fakeaws.Policy) { p.Name, p.Deny = "never", true })},
			rdsapi.Decision{Denied: true, By: "policy never"}},
		"boundary": {[]fakeaws.Policy{connect(nil), {Kind: fakeaws.Boundary, Actions: []string{"iam:*"}}},
			rdsapi.Decision{By: "the permissions boundary"}},
		"within the boundary": {[]fakeaws.Policy{connect(nil), {Kind: fakeaws.Boundary, Actions: []string{"*"}}},
			rdsapi.Decision{Allowed: true, By: "policy connect"}},
		"organization": {[]fakeaws.Policy{connect(nil), {Kind: fakeaws.Organization, Deny: true, Actions: []string{"rds-db:*"}}},
			rdsapi.Decision{Denied: true, By: "a service control policy of the organization"}},
		"organization denies others": {[]fakeaws.Policy{connect(nil), {Kind: fakeaws.Organization, Deny: true, Actions: []string{"s3:*"}}},
			rdsapi.Decision{Allowed: true, By: "policy connect"}},
		"condition": {[]fakeaws.Policy{connect(func(p *fakeaws.Policy) { p.Condition = "aws:PrincipalTag/team" })},
			rdsapi.Decision{Missing: []string{"aws:PrincipalTag/team"}}},
		"denied on a condition": {[]fakeaws.Policy{connect(nil), connect(func(p *fakeaws.Policy) { p.Deny, p.Condition = true, "aws:SourceVpc" })},
			rdsapi.Decision{Allowed: true, By: "policy connect", Missing: []string{"aws:SourceVpc"}}},
	} {
		t.Run(name, func(t *testing.T) {
			a := start(t)
			a.Allow(janeARN, simulate)
			for _, p := range test.policies {
				a.Attach(janeARN, p)
			}
			got, err := as(t, jane).MayConnect(t.Context(), janeARN, mydb, "app")
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestMayConnectDSQL(t *testing.T) {
	a := start(t)
	cluster := auth.Resource{Kind: auth.DSQL, Region: region, ID: "abcdefghijklmnopqrstuvwxyz"}
	a.Allow(janeARN, simulate)
	a.Attach(janeARN, fakeaws.Policy{Name: "dsql", Actions: []string{"dsql:DbConnect"},
		Resources: []string{"arn:aws:dsql:eu-west-1:" + account + ":cluster/abcdefghijklmnopqrstuvwxyz"}})
	client := as(t, jane)
	for user, want := range map[string]bool{"app": true, "admin": false} {
		got, err := client.MayConnect(t.Context(), janeARN, cluster, user)
		if err != nil || got.Allowed != want {
			t.Errorf("%s: %+v, %v", user, got, err)
		}
	}
}

// The ARN of a role's session does not have the role's path.
func TestMayConnectSession(t *testing.T) {
	const (
		session = "arn:aws:sts::" + account + ":assumed-role/app/it"
		plain   = "arn:aws:iam::" + account + ":role/app"
		path    = "arn:aws:iam::" + account + ":role/aws-reserved/sso.amazonaws.com/app"
		getRole = "iam:GetRole"
	)
	connect := fakeaws.Policy{Name: "connect", Actions: []string{"rds-db:connect"}}
	allowed := rdsapi.Decision{Allowed: true, By: "policy connect"}
	for name, test := range map[string]struct {
		role     string
		policies []fakeaws.Policy
		want     rdsapi.Decision
		err      error
		part     string
	}{
		"without a path": {plain, []fakeaws.Policy{connect, {Actions: []string{simulate}}}, allowed, nil, ""},
		"with a path":    {path, []fakeaws.Policy{connect, {Actions: []string{simulate, getRole}}}, allowed, nil, ""},
		// The policy is for the role with its path. For the role without it, the response is
		// AccessDenied, not NoSuchEntity.
		"policy for itself":         {path, []fakeaws.Policy{connect, {Actions: []string{simulate, getRole}, Resources: []string{path}}}, allowed, nil, ""},
		"no iam:GetRole":            {path, []fakeaws.Policy{{Actions: []string{simulate}}}, rdsapi.Decision{}, rdsapi.ErrNotPermitted, "iam:GetRole is not allowed"},
		"no permissions":            {path, nil, rdsapi.Decision{}, rdsapi.ErrNotPermitted, "iam:SimulatePrincipalPolicy is not allowed"},
		"only iam:GetRole":          {path, []fakeaws.Policy{{Actions: []string{getRole}}}, rdsapi.Decision{}, rdsapi.ErrNotPermitted, "iam:SimulatePrincipalPolicy is not allowed"},
		"only iam:GetRole, no path": {plain, []fakeaws.Policy{{Actions: []string{getRole}}}, rdsapi.Decision{}, rdsapi.ErrNotPermitted, "iam:SimulatePrincipalPolicy is not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			a := start(t)
			key := jane
			key.AccessKeyID, key.SessionToken = "ASIAAPP", "token"
			a.AddKey(key, session)
			a.AllowRole(fakeaws.Role{ARN: test.role})
			for _, p := range test.policies {
				a.Attach(test.role, p)
			}
			got, err := as(t, key).MayConnect(t.Context(), session, mydb, "app")
			if test.err != nil {
				expectError(t, err, test.err, test.part)
			} else if err != nil {
				t.Error(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestMayConnectWithoutRequest(t *testing.T) {
	a := start(t)
	client := as(t, jane)
	for caller, test := range map[string]struct {
		err  error
		part string
	}{
		"arn:aws:iam::" + account + ":root":             {rdsapi.ErrNotPermitted, "root user"},
		"arn:aws:sts::" + account + ":federated-user/x": {rdsapi.ErrNotPermitted, "federated users"},
		"jane":                         {nil, "is not the ARN"},
		"arn:aws:s3:::bucket":          {nil, "is not the ARN"},
		"arn:aws:sts::1:assumed-thing": {nil, "is not the ARN"},
	} {
		_, err := client.MayConnect(t.Context(), caller, mydb, "app")
		expectError(t, err, test.err, test.part)
	}
	other := mydb
	other.Account = "444455556666"
	got, err := client.MayConnect(t.Context(), janeARN, other, "app")
	if want := (rdsapi.Decision{By: "another account: the caller is in 111122223333, the database in 444455556666"}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if n := a.Requests(fakeaws.IAM); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestMayConnectUnknownUser(t *testing.T) {
	a := start(t)
	a.Allow(janeARN, simulate)
	gone := "arn:aws:iam::" + account + ":user/gone"
	_, err := as(t, jane).MayConnect(t.Context(), gone, mydb, "app")
	expectError(t, err, rdsapi.ErrNotFound, "IAM has no "+gone)
}

func TestPolicyHolder(t *testing.T) {
	for caller, want := range map[string][2]string{
		"arn:aws:iam::111122223333:user/people/jane":          {"jane", ""},
		"arn:aws:iam::111122223333:user/jane":                 {"jane", ""},
		"arn:aws-cn:sts::111122223333:assumed-role/app/i-012": {"", "app"},
		"arn:aws:iam::111122223333:role/service/app":          {"", "app"},
		"arn:aws:sts::111122223333:federated-user/jane":       {"", ""},
		"arn:aws:iam::111122223333:root":                      {"", ""},
		"jane":                                                {"", ""},
	} {
		if user, role := rdsapi.PolicyHolder(caller); user != want[0] || role != want[1] {
			t.Errorf("%s: %q, %q", caller, user, role)
		}
	}
}
