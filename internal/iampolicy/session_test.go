package iampolicy

import (
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

const (
	document    = "document/AWS-StartPortForwardingSessionToRemoteHost"
	toLocalhost = "document/AWS-StartPortForwardingSession"
)

func target(t *testing.T, name string) ssm.Target {
	t.Helper()
	target, err := ssm.ParseTarget(name)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// A session needs the target, the document, and its own resumption and end.
func TestSessionResources(t *testing.T) {
	for _, test := range []struct {
		target, region, account, host string
		start                         []string // the resources of ssm:StartSession
		session                       string
	}{
		{"i-01", "eu-west-1", "111122223333", "db", []string{"arn:aws:ec2:eu-west-1:111122223333:instance/i-01", "arn:aws:ssm:eu-west-1::" + document}, "arn:aws:ssm:eu-west-1:111122223333:session/*"},
		{"mi-01", "cn-north-1", "111122223333", "db", []string{"arn:aws-cn:ssm:cn-north-1:111122223333:managed-instance/mi-01", "arn:aws-cn:ssm:cn-north-1::" + document}, "arn:aws-cn:ssm:cn-north-1:111122223333:session/*"},
		{"ecs:my_cluster_0f9d_0f9d-1", "us-gov-west-1", "", "db", []string{"arn:aws-us-gov:ecs:us-gov-west-1:*:task/my_cluster/0f9d", "arn:aws-us-gov:ssm:us-gov-west-1::" + document}, "arn:aws-us-gov:ssm:us-gov-west-1:*:session/*"},
		{"i-01", "eu-west-1", "", "127.0.0.1", []string{"arn:aws:ec2:eu-west-1:*:instance/i-01", "arn:aws:ssm:eu-west-1::" + toLocalhost}, "arn:aws:ssm:eu-west-1:*:session/*"},
	} {
		var p Policy
		for range 2 { // the second time adds nothing
			p.AllowSession(Session{Target: target(t, test.target), Region: test.region, Account: test.account, Host: test.host})
		}
		want := []statement{
			{"Allow", actions{"ssm:StartSession"}, test.start, conditions{"BoolIfExists": {"ssm:SessionDocumentAccessCheck": "true"}}},
			{"Allow", actions{"ssmmessages:OpenDataChannel"}, []string{test.session}, nil},
			{"Allow", actions{"ssm:ResumeSession", "ssm:TerminateSession"}, []string{test.session}, conditions{"StringLike": {"ssm:resourceTag/aws:ssmmessages:session-id": "${aws:userid}"}}},
		}
		if !reflect.DeepEqual(p.statements, want) {
			t.Errorf("%s: %s", test.target, p.JSON())
		}
	}
}

// A tag selects the targets by a condition, which the document does not have. The look-up has no
// resources.
func TestTaggedSession(t *testing.T) {
	var p Policy
	p.AllowSession(Session{Target: target(t, "tag:Name=my bastion"), Region: "eu-west-1", Account: "111122223333", Host: "db"})
	want := []statement{
		{"Allow", actions{"ssm:DescribeInstanceInformation"}, []string{"*"}, nil},
		{"Allow", actions{"ssm:StartSession"}, []string{"arn:aws:ec2:eu-west-1:111122223333:instance/*", "arn:aws:ssm:eu-west-1:111122223333:managed-instance/*"},
			conditions{"StringEquals": {"ssm:resourceTag/Name": "my bastion"}, "BoolIfExists": {"ssm:SessionDocumentAccessCheck": "true"}}},
		{"Allow", actions{"ssm:StartSession"}, []string{"arn:aws:ssm:eu-west-1::" + document}, nil},
	}
	if !reflect.DeepEqual(p.statements[:3], want) {
		t.Error(p.JSON())
	}
}

// The actions and resources are those that AWS asks for, and no others.
func TestSessionPermissions(t *testing.T) {
	const jane = "arn:aws:iam::111122223333:user/jane"
	for _, name := range []string{"i-01", "mi-01", "ecs:my-cluster_0f9d_0f9d-1"} {
		var p Policy
		p.AllowSession(Session{Target: target(t, name), Region: "eu-west-1", Account: "111122223333", Host: "db"})
		a := &fakeaws.AWS{}
		key := sigv4.Key{AccessKeyID: "AKIAJANE", SecretAccessKey: "s"}
		a.AddKey(key, jane)
		for _, s := range p.statements {
			a.Attach(jane, fakeaws.Policy{Actions: s.Action, Resources: s.Resource})
		}
		session := "arn:aws:ssm:eu-west-1:111122223333:session/jane-1"
		for permission, want := range map[[2]string]bool{
			{"ssm:StartSession", a.AddNode(fakeaws.Node{ID: name})}:                                        true,
			{"ssm:StartSession", "arn:aws:ssm:eu-west-1::" + document}:                                     true,
			{"ssm:StartSession", a.AddNode(fakeaws.Node{ID: "i-0f"})}:                                      false,
			{"ssm:StartSession", "arn:aws:ssm:eu-west-1::" + toLocalhost}:                                  false,
			{"ssm:StartSession", "arn:aws:ssm:eu-west-1:111122223333:document/SSM-SessionManagerRunShell"}: false,
			{"ssmmessages:OpenDataChannel", session}:                                                       true,
			{"ssm:ResumeSession", session}:                                                                 true,
			{"ssm:TerminateSession", session}:                                                              true,
			{"ssm:SendCommand", a.AddNode(fakeaws.Node{ID: name})}:                                         false,
		} {
			if got := a.Permits(key.AccessKeyID, permission[0], permission[1]); got != want {
				t.Errorf("%s: %s permitted: %v", name, permission, got)
			}
		}
	}
}

func TestConditionFormats(t *testing.T) {
	var p Policy
	p.add(conditions{"StringLike": {"b": "${aws:userid}", "a": `"1"`}, "Bool": {"c": "true"}}, []string{"arn:1"}, "ssm:ResumeSession", "ssm:TerminateSession")
	for format, test := range map[string]struct {
		write func() string
		want  string
	}{
		"json": {p.Line, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ssm:ResumeSession","ssm:TerminateSession"],"Resource":["arn:1"],"Condition":{"Bool":{"c":"true"},"StringLike":{"a":"\"1\"","b":"${aws:userid}"}}}]}`},
		"terraform": {p.Terraform, `data "aws_iam_policy_document" "iamproxy" {
  statement {
    actions = ["ssm:ResumeSession", "ssm:TerminateSession"]
    resources = [
      "arn:1",
    ]

    condition {
      test     = "Bool"
      variable = "c"
      values   = ["true"]
    }

    condition {
      test     = "StringLike"
      variable = "a"
      values   = ["\"1\""]
    }

    condition {
      test     = "StringLike"
      variable = "b"
      values   = ["$${aws:userid}"]
    }
  }
}
`},
		"cdk": {p.CDK, `new iam.PolicyStatement({
  actions: ["ssm:ResumeSession", "ssm:TerminateSession"],
  resources: [
    "arn:1",
  ],
  conditions: {
    Bool: { "c": "true" },
    StringLike: { "a": "\"1\"", "b": "${aws:userid}" },
  },
})
`},
	} {
		if got := test.write(); got != test.want {
			t.Errorf("%s:\n%s", format, got)
		}
	}
}

// Terraform, where installed, formats the data source in the same way.
func TestSessionTerraform(t *testing.T) {
	if _, err := exec.LookPath("terraform"); err != nil {
		t.Skip(err)
	}
	var p Policy
	p.AllowSession(Session{Target: target(t, "tag:Name=bastion"), Region: "eu-west-1", Host: "db"})
	format := exec.CommandContext(t.Context(), "terraform", "fmt", "-check", "-diff", "-")
	format.Stdin = strings.NewReader(p.Terraform())
	if out, err := format.Output(); err != nil {
		t.Errorf("terraform fmt: %v: %s", err, out)
	}
}
