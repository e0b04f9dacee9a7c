package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
)

func TestNoCredentials(t *testing.T) {
	emptyEnvironment(t)
	failed := expectNone(t, "")
	if !strings.HasPrefix(failed.Error(), "no AWS credentials: ") || !strings.Contains(failed.Advice(), "AWS_ACCESS_KEY_ID") {
		t.Errorf("got %q, %q", failed, failed.Advice())
	}
}

func TestEnvironmentCredentials(t *testing.T) {
	emptyEnvironment(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	credentials, err := Credentials(t.Context(), "", testRegion)
	if err != nil {
		t.Fatal(err)
	}
	token := mustToken(t, &Tokens{Endpoint: testEndpoint, Region: testRegion, Credentials: credentials}, "u")
	if !regexp.MustCompile(`X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F\d{8}%2Feu-west-1%2Frds-db%2Faws4_request`).MatchString(token) {
		t.Error("token is not of these credentials")
	}
}

func TestUnknownProfile(t *testing.T) {
	emptyEnvironment(t)
	if _, err := Credentials(t.Context(), "nobody", testRegion); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("got error %v", err)
	}
}

func TestInvalidateReachesTheSource(t *testing.T) {
	emptyEnvironment(t)
	dir := t.TempDir()
	counter := filepath.Join(dir, "count")
	t.Setenv("AWS_CONFIG_FILE", file(t, dir, "config",
		"[profile p]\ncredential_process = sh -c 'echo x >>"+counter+"; echo {\\\"Version\\\": 1, \\\"AccessKeyId\\\": \\\"AKIA\\\", \\\"SecretAccessKey\\\": \\\"s\\\"}'\n"))
	credentials, err := Credentials(t.Context(), "p", testRegion)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for range 3 {
			if _, err := credentials.Retrieve(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		credentials.(interface{ Invalidate() }).Invalidate()
	}
	if count, err := os.ReadFile(counter); err != nil || strings.Count(string(count), "x") != 2 {
		t.Errorf("the source was asked %d times, %v, want 2", strings.Count(string(count), "x"), err)
	}
}

// What a source prints that cannot be read may have a key in it.
func TestNothingOfASourceIsShown(t *testing.T) {
	const secret = `{"Version":1,"AccessKeyId":"AKIAX","SecretAccessKey":"TOPSECRET"}`
	dir := t.TempDir()
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, secret)
	}))
	defer endpoint.Close()
	for name, set := range map[string]func() (profile string){
		"credential_process": func() string {
			t.Setenv("AWS_CONFIG_FILE", file(t, dir, "config",
				"[profile p]\ncredential_process = cat "+file(t, dir, "output", "a new version is available\n"+secret)+"\n"))
			return "p"
		},
		"container endpoint": func() string {
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint.URL)
			return ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			emptyEnvironment(t)
			failed := expectNone(t, set())
			if shown := failed.Error() + failed.Advice(); strings.Contains(shown, "TOPSECRET") || strings.Contains(shown, "AKIAX") || !strings.Contains(shown, "not shown") {
				t.Errorf("got %q", shown)
			}
		})
	}
}

func TestHintsToLogIn(t *testing.T) {
	emptyEnvironment(t)
	for _, test := range []struct {
		profile, variable string
		err               error
		want              string
	}{
		{"dev", "", &ssocreds.InvalidTokenError{Err: errors.New("expired")}, "`aws sso login --profile dev`"},
		{"", "", &ssocreds.InvalidTokenError{Err: errors.New("expired")}, "`aws sso login`"},
		{"", "other", errors.New("refresh cached SSO token failed"), "`aws sso login --profile other`"},
		{"dev", "other", errors.New("login session has expired, please reauthenticate"), "`aws login --profile dev`"},
	} {
		t.Setenv("AWS_PROFILE", test.variable)
		t.Setenv("AWS_CONFIG_FILE", file(t, t.TempDir(), "config", "[profile dev]\nregion = us-east-1\n[profile other]\n"))
		credentials, err := Credentials(t.Context(), test.profile, testRegion)
		if err != nil {
			t.Fatal(err)
		}
		credentials.(*provider).chain = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, test.err
		})
		_, err = credentials.Retrieve(t.Context())
		var failed *Error
		if !errors.As(err, &failed) || !errors.Is(err, test.err) || !strings.Contains(failed.Advice(), test.want) {
			t.Errorf("%v: got %v, want advice with %s", test.err, err, test.want)
		}
	}
}

func TestCredentialsWithoutASecret(t *testing.T) {
	tokens := &Tokens{Endpoint: testEndpoint, Region: testRegion, Credentials: &once{creds: aws.Credentials{AccessKeyID: "AKIA", Source: "where"}}}
	_, err := tokens.Token(t.Context(), "u")
	var failed *Error
	if !errors.As(err, &failed) || !strings.Contains(failed.Error(), "no access key with a secret") || !strings.Contains(failed.Advice(), "where") {
		t.Errorf("got %v", err)
	}
}

// expectNone has a token fail for want of credentials.
func expectNone(t *testing.T, profile string) *Error {
	t.Helper()
	credentials, err := Credentials(t.Context(), profile, testRegion)
	if err != nil {
		t.Fatal(err)
	}
	_, err = (&Tokens{Endpoint: testEndpoint, Region: testRegion, Credentials: credentials}).Token(t.Context(), "u")
	var failed *Error
	if !errors.As(err, &failed) {
		t.Fatalf("got error %v", err)
	}
	return failed
}

func file(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// emptyEnvironment leaves nothing of AWS's to be found.
func emptyEnvironment(t *testing.T) {
	t.Helper()
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", "/does/not/exist")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/does/not/exist")
}
