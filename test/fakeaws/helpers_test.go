package fakeaws_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

const (
	region  = "eu-west-1"
	janeARN = "arn:aws:iam::111122223333:user/jane"
	roleARN = "arn:aws:iam::111122223333:role/path/app"
)

var jane = sigv4.Key{AccessKeyID: "AKIAJANE", SecretAccessKey: "jane's secret"}

// issued records the keys of Issued.
type issued struct {
	mu   sync.Mutex
	keys []sigv4.Key
}

func (i *issued) add(k sigv4.Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, k)
}

func (i *issued) all() []sigv4.Key {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.keys)
}

// start starts a fake with the user jane, and an SDK environment without other sources.
func start(t *testing.T) (*fakeaws.AWS, *issued) {
	t.Helper()
	keys := &issued{}
	a := &fakeaws.AWS{Issued: keys.add}
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
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home) // on Windows
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(home, "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(home, "credentials"))
	t.Setenv("AWS_REGION", region)
	t.Setenv("AWS_ENDPOINT_URL_STS", a.URL()+"/sts")
	t.Setenv("AWS_ENDPOINT_URL_SSO", a.URL()+"/sso")
	t.Setenv("AWS_ENDPOINT_URL_SSO_OIDC", a.URL()+"/oidc")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", a.URL())
	return a, keys
}

// writeConfig writes the SDK's configuration file.
func writeConfig(t *testing.T, lines ...string) {
	t.Helper()
	write(t, os.Getenv("AWS_CONFIG_FILE"), strings.Join(lines, "\n")+"\n")
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// once disables retries of the SDK.
var once = config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} })

// retrieve returns the credentials of the SDK's default chain.
func retrieve(t *testing.T, options ...func(*config.LoadOptions) error) (aws.Credentials, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Credentials.Retrieve(ctx)
}

// expectKey fails unless the credentials are the last issued key, with this life, and STS
// returns this owner.
func expectKey(t *testing.T, keys *issued, got aws.Credentials, life time.Duration, who string) {
	t.Helper()
	all := keys.all()
	if len(all) == 0 {
		t.Fatal("Issued was not told of any key")
	}
	last := all[len(all)-1]
	told := sigv4.Key{AccessKeyID: got.AccessKeyID, SecretAccessKey: got.SecretAccessKey, SessionToken: got.SessionToken, Expires: last.Expires}
	if told != last {
		t.Errorf("got %+v, but Issued was told of %+v", told, last)
	}
	if !strings.HasPrefix(last.AccessKeyID, "ASIA") || len(last.AccessKeyID) != 20 || len(last.SecretAccessKey) != 40 ||
		len(last.SessionToken) != 400 || !strings.HasPrefix(last.SessionToken, "IQoJb3JpZ2luX2Vj") {
		t.Errorf("not like a key of AWS's: %+v", last)
	}
	if left := time.Until(last.Expires); left > life || left < life-time.Minute {
		t.Errorf("expires in %v, want %v", left, life)
	}
	// The SDK reports those of Container as expiring 5 minutes early.
	early := last.Expires.Sub(got.Expires)
	if !got.CanExpire || early != 0 && (early != 5*time.Minute || who != fakeaws.ContainerARN) {
		t.Errorf("the SDK takes it to expire at %v, not at %v", got.Expires, last.Expires)
	}
	identity, err := callerIdentity(last)
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(identity.Arn) != who || aws.ToString(identity.Account) != "111122223333" {
		t.Errorf("STS says %s of %s, want %s", aws.ToString(identity.Arn), aws.ToString(identity.Account), who)
	}
}

// stsClient returns a client with k, without retries.
func stsClient(k sigv4.Key) *sts.Client {
	return sts.New(sts.Options{
		Region:       region,
		BaseEndpoint: aws.String(os.Getenv("AWS_ENDPOINT_URL_STS")),
		Retryer:      aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: k.AccessKeyID, SecretAccessKey: k.SecretAccessKey, SessionToken: k.SessionToken}, nil
		}),
	})
}

func callerIdentity(k sigv4.Key) (*sts.GetCallerIdentityOutput, error) {
	return stsClient(k).GetCallerIdentity(context.Background(), &sts.GetCallerIdentityInput{})
}

// expectRefusal fails unless err is an answer with this status and code.
func expectRefusal(t *testing.T, err error, status int, code string) {
	t.Helper()
	var withCode interface{ ErrorCode() string }
	var withStatus interface{ HTTPStatusCode() int }
	gotCode, gotStatus := "", 0
	if errors.As(err, &withCode) {
		gotCode = withCode.ErrorCode()
	}
	if errors.As(err, &withStatus) {
		gotStatus = withStatus.HTTPStatusCode()
	}
	if gotStatus != status || gotCode != code {
		t.Errorf("status %d, code %q, want %d, %q: %v", gotStatus, gotCode, status, code, err)
	}
}

// do sends a request without a body and returns the response.
func do(t *testing.T, method, url string, header map[string]string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}
