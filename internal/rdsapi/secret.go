package rdsapi

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"

	"github.com/iamproxy/iamproxy/internal/awsapi"
)

// The permissions that Secret needs, the second one if the secret has a customer managed key.
const (
	getSecretValueAction = "secretsmanager:GetSecretValue"
	decryptAction        = "kms:Decrypt"
)

// Login is the content of a secret that RDS manages.
type Login struct{ User, Password string }

// Secret returns the login in a secret of Secrets Manager. The id is an ARN, which determines
// the region, or a name in the region of Config. Errors never contain the value of the
// secret.
// https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html
func (c *Client) Secret(ctx context.Context, id string) (Login, error) {
	region := c.Config.Region
	if arn.IsARN(id) {
		parsed, err := arn.Parse(id)
		if err != nil || parsed.Service != "secretsmanager" {
			return Login{}, fmt.Errorf("%s is not the ARN of a secret of Secrets Manager", id)
		}
		region = parsed.Region
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var response struct{ SecretString *string }
	err := awsapi.New(c.config(region), awsapi.SecretsManager).
		Call(ctx, "GetSecretValue", map[string]string{"SecretId": id}, &response)
	switch {
	case isNotFound(err):
		return Login{}, &awsapi.Error{Text: fmt.Sprintf("secret %s does not exist in %s, or has no value", id, region), Kind: ErrNotFound}
	case err != nil:
		return Login{}, explainSecret(err)
	case response.SecretString == nil:
		return Login{}, fmt.Errorf("secret %s is binary; it must be JSON with a username and a password", id)
	}
	return parseLogin(id, *response.SecretString)
}

// explainSecret returns the error for a failed GetSecretValue. The action is named if that is not
// allowed, but not if the use of the secret's key is not allowed.
// https://repost.aws/knowledge-center/secrets-manager-cross-account-key
func explainSecret(err error) error {
	failed := awsapi.Explain(getSecretValueAction, err)
	if failed.Denied.Unnamed {
		failed.Denied = awsapi.Denied{Action: decryptAction}
		failed.Text = decryptAction + " is not allowed"
	}
	return failed
}

// parseLogin parses the value of a secret. It drops the errors of encoding/json, which quote
// the value.
func parseLogin(id, text string) (Login, error) {
	var fields struct{ Username, Password *string }
	if json.Unmarshal([]byte(text), &fields) != nil {
		return Login{}, fmt.Errorf("secret %s is not JSON with a username and a password as strings", id)
	}
	for _, field := range []struct {
		key   string
		value *string
	}{{"username", fields.Username}, {"password", fields.Password}} {
		if aws.ToString(field.value) == "" {
			return Login{}, fmt.Errorf("secret %s has no %s", id, field.key)
		}
	}
	return Login{User: *fields.Username, Password: *fields.Password}, nil
}
