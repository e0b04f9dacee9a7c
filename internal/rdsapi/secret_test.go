package rdsapi_test

import (
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/internal/rdsapi"
	"github.com/iamproxy/iamproxy/test/fakeaws"
)

const getSecretValue = "secretsmanager:GetSecretValue"

func TestSecret(t *testing.T) {
	const farARN = "arn:aws:secretsmanager:us-west-2:" + account + ":secret:far-abcdef"
	a := start(t)
	a.SetSecret(fakeaws.Secret{ARN: secretARN, Value: `{"username":"postgres","password":"p\"w","engine":"postgres","port":5432}`})
	a.SetSecret(fakeaws.Secret{ARN: farARN, Value: `{"username":"root","password":"x"}`})
	a.Attach(janeARN, fakeaws.Policy{Actions: []string{getSecretValue}, Resources: []string{secretARN, farARN}})
	client := as(t, jane)
	for id, want := range map[string]rdsapi.Login{
		secretARN:       {User: "postgres", Password: `p"w`},
		"rds!cluster-1": {User: "postgres", Password: `p"w`}, // in the region of Config
		farARN:          {User: "root", Password: "x"},       // in the region of the ARN
	} {
		if got, err := client.Secret(t.Context(), id); err != nil || got != want {
			t.Errorf("%s: %+v, %v", id, got, err)
		}
	}
}

func TestSecretNotPermitted(t *testing.T) {
	const key = "arn:aws:kms:eu-west-1:" + account + ":key/1"
	a := start(t)
	a.SetSecret(fakeaws.Secret{ARN: secretARN, Value: `{"username":"u","password":"p"}`, Key: key})
	client := as(t, jane)
	request := func() error { _, err := client.Secret(t.Context(), secretARN); return err }
	expectError(t, request(), rdsapi.ErrNotPermitted, getSecretValue+" is not allowed: no identity-based policy allows")
	a.Attach(janeARN, fakeaws.Policy{Deny: true, Actions: []string{getSecretValue}})
	expectError(t, request(), rdsapi.ErrNotPermitted, getSecretValue+" is not allowed: explicit deny in an identity-based policy")
	a.Detach(janeARN)
	a.Allow(janeARN, getSecretValue)
	expectError(t, request(), rdsapi.ErrNotPermitted, "kms:Decrypt is not allowed")
	a.Allow(janeARN, "kms:Decrypt")
	if err := request(); err != nil {
		t.Error(err)
	}
}

func TestSecretInvalid(t *testing.T) {
	const hidden = "swordfish"
	a := start(t)
	a.Allow(janeARN, getSecretValue)
	client := as(t, jane)
	for name, test := range map[string]struct {
		secret fakeaws.Secret
		part   string
	}{
		"text":         {fakeaws.Secret{Value: hidden}, "is not JSON with"},
		"number":       {fakeaws.Secret{Value: `{"username":"u","password":4711, "x":"` + hidden + `"}`}, "is not JSON with"},
		"list":         {fakeaws.Secret{Value: `["` + hidden + `"]`}, "is not JSON with"},
		"binary":       {fakeaws.Secret{Value: hidden, Binary: true}, "is binary"},
		"no username":  {fakeaws.Secret{Value: `{"password":"` + hidden + `"}`}, "has no username"},
		"no password":  {fakeaws.Secret{Value: `{"username":"` + hidden + `"}`}, "has no password"},
		"empty":        {fakeaws.Secret{Value: `{"username":"` + hidden + `","password":""}`}, "has no password"},
		"null":         {fakeaws.Secret{Value: `null`}, "has no username"},
		"just garbage": {fakeaws.Secret{Value: hidden + "\x00\n{"}, "is not JSON with"},
	} {
		t.Run(name, func(t *testing.T) {
			test.secret.ARN = secretARN
			a.SetSecret(test.secret)
			got, err := client.Secret(t.Context(), secretARN)
			expectError(t, err, nil, test.part)
			if got != (rdsapi.Login{}) || strings.Contains(err.Error(), hidden) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	_, err := client.Secret(t.Context(), "gone")
	expectError(t, err, rdsapi.ErrNotFound, "secret gone does not exist in eu-west-1")
	_, err = client.Secret(t.Context(), "arn:aws:ssm:eu-west-1:1:parameter/x")
	expectError(t, err, nil, "is not the ARN of a secret")
}
