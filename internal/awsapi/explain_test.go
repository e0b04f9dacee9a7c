package awsapi

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
)

// The messages are those in the IAM User Guide under "Troubleshoot access denied error
// messages", and one of Secrets Manager.
func TestAccessDenied(t *testing.T) {
	const subject = "User: arn:aws:iam::123456789012:user/j is not authorized to perform: rds:DescribeDBClusters"
	const prefix = subject + " on resource: arn:aws:rds:eu-west-1:123456789012:cluster:mydb "
	for message, want := range map[string]string{
		prefix + "because no identity-based policy allows the rds:DescribeDBClusters action":     "rds:DescribeDBClusters is not allowed: no identity-based policy allows the rds:DescribeDBClusters action",
		prefix + "because no permissions boundary allows the rds:DescribeDBClusters action":      "rds:DescribeDBClusters is not allowed: no permissions boundary allows the rds:DescribeDBClusters action",
		prefix + "because no session policy allows the rds:DescribeDBClusters action":            "rds:DescribeDBClusters is not allowed: no session policy allows the rds:DescribeDBClusters action",
		prefix + "because no service control policy allows the rds:DescribeDBClusters action":    "rds:DescribeDBClusters is not allowed: no service control policy allows the rds:DescribeDBClusters action",
		prefix + "with an explicit deny in a service control policy":                             "rds:DescribeDBClusters is not allowed: explicit deny in a service control policy",
		prefix + "with an explicit deny in an identity-based policy: arn:aws:iam::1:policy/deny": "rds:DescribeDBClusters is not allowed: explicit deny in an identity-based policy: arn:aws:iam::1:policy/deny",
		subject: "rds:DescribeDBClusters is not allowed",
		"":      "service:Action is not allowed",
		"User: x is not authorized to perform: kms:Decrypt on the resource associated with this ciphertext because no identity-based policy allows it": "kms:Decrypt is not allowed: no identity-based policy allows it",
	} {
		got := accessDenied("service:Action", message)
		if got.Error() != want || !errors.Is(got, ErrNotPermitted) || got.Denied.Unnamed != (message == "") {
			t.Errorf("%s\ngot  %v\nwant %s", message, got, want)
		}
	}
}

func FuzzResponseError(f *testing.F) {
	f.Add("AccessDenied", "User: x is not authorized to perform: rds:X because no y allows it", 403)
	f.Add("InvalidSignatureException", "The Canonical String\nsecret", 400)
	f.Add("Anything", "\n\n", 500)
	f.Fuzz(func(t *testing.T, code, message string, status int) {
		err := responseError("RDS", "rds:DescribeDBClusters", &smithy.GenericAPIError{Code: code, Message: message}, status)
		if text := err.Error(); text == "" || strings.Contains(text, "\n") {
			t.Errorf("%q", text)
		}
		if errors.Is(err, ErrCredentials) && len(message) > 80 && strings.Contains(err.Error(), message) {
			t.Errorf("the error quotes it: %v", err)
		}
	})
}

func TestParseDenied(t *testing.T) {
	const user = "User: arn:aws:sts::111122223333:assumed-role/dev/jane is not authorized to perform: "
	for message, want := range map[string]Denied{
		user + "ssm:StartSession on resource: arn:aws:ec2:eu-west-1:111122223333:instance/i-01 because no identity-based policy allows the ssm:StartSession action": {
			Action: "ssm:StartSession", Resource: "arn:aws:ec2:eu-west-1:111122223333:instance/i-01", Policy: "no identity-based policy allows the ssm:StartSession action"},
		user + "ssm:DescribeInstanceInformation": {Action: "ssm:DescribeInstanceInformation"},
		"":                                       {},
	} {
		if got := parseDenied(message); got != want {
			t.Errorf("%s: %+v", message, got)
		}
	}
}
