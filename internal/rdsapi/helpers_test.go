package rdsapi_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/rdsapi"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

const (
	account = "111122223333"
	region  = "eu-west-1"
	janeARN = "arn:aws:iam::" + account + ":user/jane"
)

var jane = sigv4.Key{AccessKeyID: "AKIAJANE", SecretAccessKey: "jane's secret"}

// start starts a fake AWS with the user jane, who has no permissions, and points the SDK to
// it.
func start(t *testing.T) *fakeaws.AWS {
	t.Helper()
	a := &fakeaws.AWS{}
	a.AddKey(jane, janeARN)
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	home := t.TempDir()
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(home, "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(home, "credentials"))
	t.Setenv("AWS_ENDPOINT_URL_STS", a.URL()+"/sts")
	t.Setenv("AWS_ENDPOINT_URL_RDS", a.URL()+"/rds")
	t.Setenv("AWS_ENDPOINT_URL_IAM", a.URL()+"/iam")
	t.Setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", a.URL()+"/secretsmanager")
	return a
}

// as returns a client with the credentials k.
func as(t *testing.T, k sigv4.Key) *rdsapi.Client {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", k.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", k.SecretAccessKey)
	t.Setenv("AWS_SESSION_TOKEN", k.SessionToken)
	identity := &auth.Identity{}
	if err := identity.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg, err := identity.Config(t.Context(), region)
	if err != nil {
		t.Fatal(err)
	}
	return &rdsapi.Client{Config: cfg}
}

// staticClient returns a client with the key of jane that sends all requests to endpoint.
func staticClient(t *testing.T, endpoint string) *rdsapi.Client {
	t.Helper()
	for _, service := range []string{"RDS", "IAM", "SECRETS_MANAGER"} {
		t.Setenv("AWS_ENDPOINT_URL_"+service, endpoint)
	}
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion(region),
		config.WithCredentialsProvider(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: jane.AccessKeyID, SecretAccessKey: jane.SecretAccessKey}, nil
		})))
	if err != nil {
		t.Fatal(err)
	}
	return &rdsapi.Client{Config: cfg}
}

// expectError fails unless err has one line with part in it, and is kind and no other kind.
func expectError(t *testing.T, err, kind error, part string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, k := range []error{rdsapi.ErrNotPermitted, rdsapi.ErrNotFound, rdsapi.ErrCredentials, rdsapi.ErrUnreachable} {
		if got, want := errors.Is(err, k), errors.Is(kind, k); got != want {
			t.Errorf("%q is %q: %v, want %v", err, k, got, want)
		}
	}
	text := err.Error()
	if !strings.Contains(text, part) {
		t.Errorf("%q has not %q", text, part)
	}
	for _, bad := range []string{"\n", "RequestID", "https response error", "operation error"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q has %q", text, bad)
		}
	}
}

// within fails if f takes a few seconds longer than the timeout of a request.
func within(t *testing.T, f func()) {
	t.Helper()
	const limit = 8 * time.Second
	began := time.Now()
	f()
	if took := time.Since(began); took > limit {
		t.Errorf("took %v", took)
	}
}
