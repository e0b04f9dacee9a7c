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
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
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
	identity := load(t, "")
	token := mustToken(t, &Tokens{Endpoint: testEndpoint, Region: testRegion, Identity: identity}, "u")
	if !regexp.MustCompile(`X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F\d{8}%2Feu-west-1%2Frds-db%2Faws4_request`).MatchString(token) {
		t.Error("token is not of these credentials")
	}
}

func TestUnknownProfile(t *testing.T) {
	emptyEnvironment(t)
	if err := (&Identity{Profile: "nobody"}).Load(t.Context()); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("got error %v", err)
	}
}

func TestNotARole(t *testing.T) {
	emptyEnvironment(t)
	for _, role := range []string{"app", "arn:aws:iam::111122223333:user/app", "arn:aws:sts::111122223333:assumed-role/app/x",
		"arn:aws:iam::111122223333:role/", "arn:aws:iam::111122223333:role/a b", "arn:aws:iam::111122223333:role/a, arn:aws:iam::111122223333:role/b", "arn:aws:iam::1:role/a"} {
		if err := (&Identity{Roles: []string{role}}).Load(t.Context()); err == nil || !strings.Contains(err.Error(), role) {
			t.Errorf("%s: got error %v", role, err)
		}
	}
}

func TestProfileThatWantsACode(t *testing.T) {
	emptyEnvironment(t)
	t.Setenv("AWS_CONFIG_FILE", file(t, t.TempDir(), "config", `[profile p]
role_arn = arn:aws:iam::111122223333:role/r
source_profile = base
mfa_serial = arn:aws:iam::111122223333:mfa/me
[profile base]
aws_access_key_id = AKIA
aws_secret_access_key = s
`))
	if err := (&Identity{Profile: "p", Region: testRegion}).Load(t.Context()); err == nil || !strings.Contains(err.Error(), "mfa_serial") {
		t.Errorf("got error %v", err)
	}
}

// Keys that someone writes into the files sign from the next login on.
func TestFilesChange(t *testing.T) {
	emptyEnvironment(t)
	dir := t.TempDir()
	keys := func(id string) string {
		return "[default]\naws_access_key_id = " + id + "\naws_secret_access_key = secret\n"
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file(t, dir, "credentials", keys("AKIAFIRST")))
	tokens := newTokens(nil)
	tokens.Identity = load(t, "")
	signer := func() string {
		token := mustToken(t, tokens, "u")
		_, id, _ := strings.Cut(token, "X-Amz-Credential=")
		id, _, _ = strings.Cut(id, "%2F")
		return id
	}
	if id := signer(); id != "AKIAFIRST" {
		t.Fatalf("signed by %s", id)
	}
	file(t, dir, "credentials", "[default\n")    // torn
	tokens.Identity.filesCheckedAt = time.Time{} // a second later
	if id := signer(); id != "AKIAFIRST" {
		t.Errorf("signed by %s while the file cannot be read", id)
	}
	file(t, dir, "credentials", keys("AKIATHESECOND"))
	tokens.Identity.filesCheckedAt = time.Time{}
	if id := signer(); id != "AKIATHESECOND" {
		t.Errorf("signed by %s", id)
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
		failed := (&Identity{Profile: test.profile}).explain(test.err, false)
		if !errors.Is(failed, test.err) || !strings.Contains(failed.Advice(), test.want) || failed.temporary {
			t.Errorf("%v: got %v, %s, want advice with %s", test.err, failed, failed.Advice(), test.want)
		}
		if words := "`" + strings.Join(failed.Command, " ") + "`"; words != test.want || failed.None {
			t.Errorf("%v: command %q", test.err, failed.Command)
		}
	}
}

// What may pass is waited for; what somebody has to mend is not.
func TestWhatPasses(t *testing.T) {
	refused := &smithyhttp.RequestSendError{Err: errors.New("connection refused")}
	answer := func(status int) error {
		return &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: errors.New("x")}
	}
	for name, test := range map[string]struct {
		err               error
		passes, hasWorked bool // what it does at first, and of a source that has worked
	}{
		"a broken service":          {answer(503), true, true},
		"throttling":                {answer(429), true, true},
		"throttling, as STS has it": {&smithy.GenericAPIError{Code: "Throttling"}, true, true},
		"no identity provider":      {&smithy.GenericAPIError{Code: "IDPCommunicationError"}, true, true},
		"a clear no":                {answer(403), false, false},
		"nobody there":              {refused, true, true},
		"no instance metadata":      {fmt.Errorf("no EC2 IMDS role found, %w", refused), false, true},
		"logged out":                {&ssocreds.InvalidTokenError{Err: errors.New("expired")}, false, false},
		"SSO not reached":           {&ssocreds.InvalidTokenError{Err: refused}, true, true},
		"garbage":                   {errors.New("invalid character"), false, true},
		"the limit of a fetch":      {context.DeadlineExceeded, true, true},
	} {
		if got := isTransient(test.err, false); got != test.passes {
			t.Errorf("%s: passes at first: %v", name, got)
		}
		if got := isTransient(test.err, true); got != test.hasWorked {
			t.Errorf("%s: passes once it has worked: %v", name, got)
		}
	}
}

func load(t *testing.T, profile string) *Identity {
	t.Helper()
	identity := &Identity{Profile: profile, Region: testRegion}
	if err := identity.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return identity
}

// expectNone has a token fail for want of credentials.
func expectNone(t *testing.T, profile string) *Error {
	t.Helper()
	identity := load(t, profile)
	_, err := (&Tokens{Endpoint: testEndpoint, Region: testRegion, Identity: identity}).Token(t.Context(), "u")
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
