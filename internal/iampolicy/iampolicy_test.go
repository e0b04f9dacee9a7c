package iampolicy

import (
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/iamproxy/iamproxy/auth"
)

func TestFormats(t *testing.T) {
	var p Policy
	p.Allow(auth.Resource{Kind: auth.Cluster, Region: "eu-west-1", Account: "111122223333", ID: "cluster-A"}, "app")
	p.Allow(auth.Resource{Kind: auth.Cluster, Region: "eu-west-1", Account: "111122223333", ID: "cluster-A"}, `${a}"%{<&`)
	p.Allow(auth.Resource{Kind: auth.DSQL, Region: "us-east-1", Account: "111122223333", ID: "b"}, "admin")
	for format, want := range map[string]string{
		"json": `{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": "rds-db:connect",
      "Resource": [
        "arn:aws:rds-db:eu-west-1:111122223333:dbuser:cluster-A/app",
        "arn:aws:rds-db:eu-west-1:111122223333:dbuser:cluster-A/${$}{a}\"%{<&"
      ]
    },
    {
      "Effect": "Allow",
      "Action": "dsql:DbConnectAdmin",
      "Resource": [
        "arn:aws:dsql:us-east-1:111122223333:cluster/b"
      ]
    }
  ]
}
`,
		"line": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"rds-db:connect","Resource":["arn:aws:rds-db:eu-west-1:111122223333:dbuser:cluster-A/app","arn:aws:rds-db:eu-west-1:111122223333:dbuser:cluster-A/${$}{a}\"%{<&"]},{"Effect":"Allow","Action":"dsql:DbConnectAdmin","Resource":["arn:aws:dsql:us-east-1:111122223333:cluster/b"]}]}`,
		"terraform": `data "aws_iam_policy_document" "iamproxy" {
  statement {
    actions = ["rds-db:connect"]
    resources = [
      "arn:aws:rds-db:eu-west-1:111122223333:dbuser:cluster-A/app",
      "arn:aws:rds-db:eu-west-1:111122223333:dbuser:cluster-A/$${$}{a}\"%%{<&",
    ]
  }

  statement {
    actions = ["dsql:DbConnectAdmin"]
    resources = [
      "arn:aws:dsql:us-east-1:111122223333:cluster/b",
    ]
  }
}
`,
		"cdk": `new iam.PolicyStatement({
  actions: ["rds-db:connect"],
  resources: [
    "arn:aws:rds-db:eu-west-1:111122223333:dbuser:cluster-A/app",
    "arn:aws:rds-db:eu-west-1:111122223333:dbuser:cluster-A/${$}{a}\"%{<&",
  ],
}),
new iam.PolicyStatement({
  actions: ["dsql:DbConnectAdmin"],
  resources: [
    "arn:aws:dsql:us-east-1:111122223333:cluster/b",
  ],
})
`,
	} {
		if got := map[string]func() string{"json": p.JSON, "line": p.Line, "terraform": p.Terraform, "cdk": p.CDK}[format](); got != want {
			t.Errorf("%s:\n%s", format, got)
		}
	}
}

// Terraform, where installed, accepts the data source.
func TestTerraform(t *testing.T) {
	if _, err := exec.LookPath("terraform"); err != nil {
		t.Skip(err)
	}
	var p Policy
	for _, user := range oddNames {
		p.Allow(auth.Resource{Kind: auth.Cluster, Region: "eu-west-1", Account: "111122223333", ID: "cluster-A"}, user)
	}
	format := exec.CommandContext(t.Context(), "terraform", "fmt", "-check", "-diff", "-")
	format.Stdin = strings.NewReader(p.Terraform())
	if out, err := format.Output(); err != nil {
		t.Errorf("terraform fmt: %v: %s", err, out)
	}
	for _, arn := range p.statements[0].Resource {
		console := exec.CommandContext(t.Context(), "terraform", "console")
		console.Dir = t.TempDir()
		console.Stdin = strings.NewReader("jsonencode(base64encode(" + hcl(arn) + ") == base64encode(jsondecode(" + hcl(javaScript(arn)) + ")))\n")
		if out, err := console.Output(); err != nil || !strings.Contains(string(out), "true") {
			t.Errorf("%s: %v: %s", arn, err, out)
		}
	}
}

var oddNames = []string{"app", "*", "a?", "$", "${*}", "$${", "%{", "%%{if true}", "${aws:username}", `\`, `\"`, `a"b`, "<&>", "é", "'", "`", "a$", "$$", "{", "/", "&{x}"}

// A policy is for one user whatever the name, and the same in all formats.
func FuzzNames(f *testing.F) {
	for _, name := range oddNames {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, user string) {
		if !utf8.ValidString(user) || strings.ContainsFunc(user, unicode.IsControl) { // not a user name
			t.Skip()
		}
		var p Policy
		p.Allow(auth.Resource{Kind: auth.Cluster, Region: "eu-west-1", Account: "111122223333", ID: "cluster-A"}, user)
		arn := p.statements[0].Resource[0]
		_, pattern, _ := strings.Cut(arn, "/")
		if name, err := onlyName(pattern); err != nil || name != user {
			t.Errorf("%q is for %q: %v", pattern, name, err)
		}
		var fromJSON struct{ Statement []struct{ Resource []string } }
		if err := json.Unmarshal([]byte(p.JSON()), &fromJSON); err != nil || fromJSON.Statement[0].Resource[0] != arn {
			t.Errorf("json: %v: %s", err, p.JSON())
		}
		if got, err := unquoteHCL(line(p.Terraform(), 4)); err != nil || got != arn {
			t.Errorf("terraform: %q, %v: %s", got, err, p.Terraform())
		}
		var fromCDK string
		if err := json.Unmarshal([]byte(line(p.CDK(), 3)), &fromCDK); err != nil || fromCDK != arn {
			t.Errorf("cdk: %v: %s", err, p.CDK())
		}
	})
}

// line returns the nth line of text, counted from 0, without its indent and comma.
func line(text string, n int) string {
	return strings.TrimSuffix(strings.TrimSpace(strings.Split(text, "\n")[n]), ",")
}

// onlyName returns the name that a resource pattern matches, if it matches one name only.
func onlyName(pattern string) (name string, err error) {
	for pattern != "" {
		switch {
		case len(pattern) >= 4 && pattern[:2] == "${" && strings.Contains("*?$", pattern[2:3]) && pattern[3] == '}':
			name, pattern = name+pattern[2:3], pattern[4:]
		case strings.Contains("*?$", pattern[:1]):
			return "", errors.New("the pattern matches other names, too")
		default:
			name, pattern = name+pattern[:1], pattern[1:]
		}
	}
	return name, nil
}

// unquoteHCL parses a quoted template, which must have no interpolations.
func unquoteHCL(text string) (string, error) {
	var literal strings.Builder
	for text != "" {
		begins := func(prefixes ...string) bool {
			return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(text, p) })
		}
		n := 1
		switch {
		case begins("$${", "%%{"):
			literal.WriteString(text[1:3])
			text = text[3:]
			continue
		case begins("${", "%{"):
			return "", errors.New("an interpolation")
		case begins(`\`) && !begins(`\"`, `\\`, `\n`, `\r`, `\t`, `\u`):
			return "", errors.New("an escape that is not one of HCL")
		case begins(`\`):
			n = 2
		}
		literal.WriteString(text[:n])
		text = text[n:]
	}
	var s string
	err := json.Unmarshal([]byte(literal.String()), &s)
	return s, err
}
