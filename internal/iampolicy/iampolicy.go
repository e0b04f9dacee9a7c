// Package iampolicy writes the IAM policies that allow logins to databases, and the sessions of
// Session Manager on the way to them, as JSON, Terraform and CDK. It finds the resources that
// they name.
package iampolicy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/iamproxy/iamproxy/auth"
)

// Policy is an identity-based policy of IAM. The zero value allows nothing.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html
type Policy struct {
	statements []statement
}

// statement allows actions. It has no Sid, which would have to be unique in the document that
// the statement is copied to.
type statement struct {
	Effect    string
	Action    actions
	Resource  []string   // ARNs
	Condition conditions `json:",omitempty"`
}

// actions is one action or several.
type actions []string

// MarshalJSON returns one action as a string, and several as an array.
func (a actions) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]string(a))
}

// conditions has the values by operator and key.
type conditions map[string]map[string]string

// Allow adds the permission to log in to database as user.
func (p *Policy) Allow(database auth.Resource, user string) {
	p.add(nil, []string{database.ARN(Literal(user))}, database.Action(user))
}

// add adds the resources to the statement with the same actions and conditions.
func (p *Policy) add(when conditions, resources []string, allowed ...string) {
	i := slices.IndexFunc(p.statements, func(s statement) bool {
		return slices.Equal(s.Action, allowed) && reflect.DeepEqual(s.Condition, when)
	})
	if i < 0 {
		i = len(p.statements)
		p.statements = append(p.statements, statement{Effect: "Allow", Action: allowed, Condition: when})
	}
	for _, arn := range resources {
		if s := &p.statements[i]; !slices.Contains(s.Resource, arn) {
			s.Resource = append(s.Resource, arn)
		}
	}
}

// Literal escapes the special characters of policies in a user name, so that a resource
// matches that name alone.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html#policy-vars-specialchars
func Literal(user string) string { return literal.Replace(user) }

var literal = strings.NewReplacer("*", "${*}", "?", "${?}", "$", "${$}")

// JSON returns the policy document, indented.
func (p *Policy) JSON() string { return p.document("  ") }

// Line returns the policy document on one line, without a newline.
func (p *Policy) Line() string { return strings.TrimSuffix(p.document(""), "\n") }

func (p *Policy) document(indent string) string {
	return encode(struct {
		Version   string
		Statement []statement
	}{"2012-10-17", p.statements}, indent)
}

// Terraform returns a data source of the AWS provider. Its attribute json is the document.
// https://registry.terraform.io/providers/hashicorp/aws/latest/docs/data-sources/iam_policy_document
func (p *Policy) Terraform() string {
	var b strings.Builder
	b.WriteString("data \"aws_iam_policy_document\" \"iamproxy\" {\n")
	for i, s := range p.statements {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "  statement {\n    actions = [%s]\n    resources = [\n", list(s.Action, hcl))
		for _, arn := range s.Resource {
			fmt.Fprintf(&b, "      %s,\n", hcl(arn))
		}
		b.WriteString("    ]\n")
		for operator, keys := range sorted(s.Condition) {
			for key, value := range sorted(keys) {
				fmt.Fprintf(&b, "\n    condition {\n      test     = %s\n      variable = %s\n      values   = [%s]\n    }\n", hcl(operator), hcl(key), hcl(value))
			}
		}
		b.WriteString("  }\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// CDK returns the statements in TypeScript, for the property statements of a PolicyDocument.
// https://docs.aws.amazon.com/cdk/api/v2/docs/aws-cdk-lib.aws_iam.PolicyStatement.html
func (p *Policy) CDK() string {
	var statements []string
	for _, s := range p.statements {
		var b strings.Builder
		fmt.Fprintf(&b, "new iam.PolicyStatement({\n  actions: [%s],\n  resources: [\n", list(s.Action, javaScript))
		for _, arn := range s.Resource {
			fmt.Fprintf(&b, "    %s,\n", javaScript(arn))
		}
		b.WriteString("  ],\n")
		if len(s.Condition) > 0 {
			b.WriteString("  conditions: {\n")
			for operator, keys := range sorted(s.Condition) {
				var pairs []string
				for key, value := range sorted(keys) {
					pairs = append(pairs, javaScript(key)+": "+javaScript(value))
				}
				fmt.Fprintf(&b, "    %s: { %s },\n", operator, strings.Join(pairs, ", "))
			}
			b.WriteString("  },\n")
		}
		b.WriteString("})")
		statements = append(statements, b.String())
	}
	return strings.Join(statements, ",\n") + "\n"
}

// list returns the elements of a list in a language.
func list(words []string, quote func(string) string) string {
	var quoted []string
	for _, word := range words {
		quoted = append(quoted, quote(word))
	}
	return strings.Join(quoted, ", ")
}

// sorted returns the pairs of a map in the order of their keys.
func sorted[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}

// hcl returns text as a quoted template of HCL without interpolations. JSON and HCL escape
// all characters alike but control characters, which user names do not contain.
// https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md#template-expressions
func hcl(text string) string {
	return strings.NewReplacer("${", "$${", "%{", "%%{").Replace(javaScript(text))
}

// javaScript returns text as a string literal. JSON's strings have been valid ones since ES2019.
// https://tc39.es/ecma262/#sec-ecmascript-overview
func javaScript(text string) string { return strings.TrimSuffix(encode(text, ""), "\n") }

// encode returns value as JSON. It does not escape &, < and >: policies are not HTML.
func encode(value any, indent string) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	_ = encoder.Encode(value) // strings cannot fail
	return b.String()
}
