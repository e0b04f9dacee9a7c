package rdsapi

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
)

// TestWhyDenied are the messages that the IAM User Guide lists under "Troubleshoot access
// denied error messages", and two that services have of their own.
func TestWhyDenied(t *testing.T) {
	const who = "User: arn:aws:iam::123456789012:user/j is not authorized to perform: rds:DescribeDBClusters"
	const what = who + " on resource: arn:aws:rds:eu-west-1:123456789012:cluster:mydb "
	for message, want := range map[string]string{
		what + "because no identity-based policy allows the rds:DescribeDBClusters action":     "rds:DescribeDBClusters is not allowed: no identity-based policy allows the rds:DescribeDBClusters action",
		what + "because no permissions boundary allows the rds:DescribeDBClusters action":      "rds:DescribeDBClusters is not allowed: no permissions boundary allows the rds:DescribeDBClusters action",
		what + "because no session policy allows the rds:DescribeDBClusters action":            "rds:DescribeDBClusters is not allowed: no session policy allows the rds:DescribeDBClusters action",
		what + "because no service control policy allows the rds:DescribeDBClusters action":    "rds:DescribeDBClusters is not allowed: no service control policy allows the rds:DescribeDBClusters action",
		what + "with an explicit deny in a service control policy":                             "rds:DescribeDBClusters is not allowed: explicit deny in a service control policy",
		what + "with an explicit deny in an identity-based policy: arn:aws:iam::1:policy/deny": "rds:DescribeDBClusters is not allowed: explicit deny in an identity-based policy: arn:aws:iam::1:policy/deny",
		who:                            "rds:DescribeDBClusters is not allowed",
		"":                             "asked:For is not allowed",
		"Access to KMS is not allowed": "kms:Decrypt is not allowed",
		"User: x is not authorized to perform: kms:Decrypt on the resource associated with this ciphertext because no identity-based policy allows it": "kms:Decrypt is not allowed: no identity-based policy allows it",
	} {
		if got := denied("asked:For", message); got.Error() != want || !errors.Is(got, ErrNotPermitted) {
			t.Errorf("%s\ngot  %v\nwant %s", message, got, want)
		}
	}
}

func FuzzRefusal(f *testing.F) {
	f.Add("AccessDenied", "User: x is not authorized to perform: rds:X because no y allows it", 403)
	f.Add("InvalidSignatureException", "The Canonical String\nsecret", 400)
	f.Add("Anything", "\n\n", 500)
	f.Fuzz(func(t *testing.T, code, message string, status int) {
		err := refusal("RDS", "rds:DescribeDBClusters", &smithy.GenericAPIError{Code: code, Message: message}, status)
		if text := err.Error(); text == "" || strings.Contains(text, "\n") {
			t.Errorf("%q", text)
		}
		if errors.Is(err, ErrCredentials) && len(message) > 80 && strings.Contains(err.Error(), message) {
			t.Errorf("it is quoted: %v", err)
		}
	})
}

func FuzzSecret(f *testing.F) {
	f.Add(`{"username":"u","password":"p"}`)
	f.Add(`{"username":1}`)
	f.Add("x")
	f.Fuzz(func(t *testing.T, text string) {
		login, err := readLogin("id", text)
		if (err == nil) != (login.User != "" && login.Password != "") {
			t.Errorf("%+v, %v", login, err)
		}
		if err != nil && len(text) > 80 && strings.Contains(err.Error(), text) {
			t.Errorf("it is quoted: %v", err)
		}
	})
}
