package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

func TestNoCredentials(t *testing.T) {
	emptyEnvironment(t)
	failed := mustFail(t, "")
	if failed.Code != ReasonNoCredentials || failed.Error() != `no AWS credentials found (tried: environment variables, profile "default", container, EC2 metadata (disabled))` || !strings.Contains(failed.Advice(), "AWS_ACCESS_KEY_ID") {
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
		t.Error("the token is not signed by these credentials")
	}
	if source := identity.Source(); source != (Source{Kind: SourceEnvironment}) {
		t.Errorf("source %+v", source)
	}
}

func TestUnknownProfile(t *testing.T) {
	emptyEnvironment(t)
	if err := (&Identity{Profile: "unknown"}).Load(t.Context()); err == nil || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("got error %v", err)
	}
}

func TestInvalidRole(t *testing.T) {
	emptyEnvironment(t)
	for _, role := range []string{"app", "arn:aws:iam::111122223333:user/app", "arn:aws:sts::111122223333:assumed-role/app/x",
		"arn:aws:iam::111122223333:role/", "arn:aws:iam::111122223333:role/a b", "arn:aws:iam::111122223333:role/a, arn:aws:iam::111122223333:role/b", "arn:aws:iam::1:role/a"} {
		if err := (&Identity{Roles: []string{role}}).Load(t.Context()); reasonOf(err) != ReasonInvalidRole || !strings.Contains(err.Error(), role) {
			t.Errorf("%s: got error %v", role, err)
		}
	}
}

func TestMFARequired(t *testing.T) {
	emptyEnvironment(t)
	t.Setenv("AWS_CONFIG_FILE", file(t, t.TempDir(), "config", `[profile p]
role_arn = arn:aws:iam::111122223333:role/r
source_profile = base
mfa_serial = arn:aws:iam::111122223333:mfa/me
[profile base]
aws_access_key_id = AKIA
aws_secret_access_key = s
`))
	if err := (&Identity{Profile: "p", Region: testRegion}).Load(t.Context()); reasonOf(err) != ReasonMFARequired {
		t.Errorf("got error %v", err)
	}
}

// TestFilesChange verifies that new keys in the files are used from the next login
// on, and that files that cannot be read change nothing.
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
	file(t, dir, "credentials", "[default\n")    // partially written
	tokens.Identity.filesCheckedAt = time.Time{} // a second later
	if id := signer(); id != "AKIAFIRST" {
		t.Errorf("signed by %s while the file cannot be read", id)
	}
	file(t, dir, "credentials", keys("AKIATHESECOND"))
	tokens.Identity.filesCheckedAt = time.Time{}
	if id := signer(); id != "AKIATHESECOND" {
		t.Errorf("signed by %s", id)
	}
	if source := tokens.Identity.Source(); source.Kind != SourceProfileKeys {
		t.Errorf("source %+v", source)
	}
}

// TestSourceOutputIsRedacted verifies that errors do not quote the output of a
// source, which may contain a key.
func TestSourceOutputIsRedacted(t *testing.T) {
	const secret = `{"Version":1,"AccessKeyId":"AKIAX","SecretAccessKey":"TOPSECRET"}`
	dir, cat := t.TempDir(), "cat"
	if runtime.GOOS == "windows" {
		cat = "type"
	}
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, secret)
	}))
	defer endpoint.Close()
	for name, set := range map[string]func() (profile string){
		"credential_process": func() string {
			t.Setenv("AWS_CONFIG_FILE", file(t, dir, "config",
				"[profile p]\ncredential_process = "+cat+" "+file(t, dir, "output", "a new version is available\n"+secret)+"\n"))
			return "p"
		},
		"container endpoint": func() string {
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint.URL)
			return ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			emptyEnvironment(t)
			failed := mustFail(t, set())
			if shown := failed.Error() + failed.Advice(); strings.Contains(shown, "TOPSECRET") || strings.Contains(shown, "AKIAX") || !strings.Contains(shown, "not shown") {
				t.Errorf("got %q", shown)
			}
		})
	}
}

func TestLoginHints(t *testing.T) {
	emptyEnvironment(t)
	expired := &ssocreds.InvalidTokenError{Err: errors.New("expired")}
	for _, test := range []struct {
		profile, variable string
		err               error
		reason            Reason
		want              string
	}{
		{"dev", "", expired, ReasonSSOExpired, "Run: aws sso login --profile dev"},
		{"", "", expired, ReasonSSOExpired, "Run: aws sso login"},
		{"", "other", operation("SSO OIDC", "CreateToken", apiError(400, "InvalidGrantException")), ReasonSSOExpired, "Run: aws sso login --profile other"},
		{"dev", "other", errors.New("login session has expired, please reauthenticate"), ReasonLoginExpired, "Run: aws login --profile dev"},
		{"my dev", "", expired, ReasonSSOExpired, "Run: aws sso login --profile 'my dev'"},
	} {
		t.Setenv("AWS_PROFILE", test.variable)
		failed := (&Identity{Profile: test.profile}).explain(test.err, false)
		if !errors.Is(failed, test.err) || failed.Code != test.reason || failed.Advice() != test.want || failed.Temporary() {
			t.Errorf("%v: got %v, %s, %s, want %s with %s", test.err, failed, failed.Code, failed.Advice(), test.reason, test.want)
		}
		if want := test.want + ", then connect again; iamproxy need not be restarted."; failed.ClientAdvice() != want {
			t.Errorf("%v: a client gets %q", test.err, failed.ClientAdvice())
		}
	}
}

// TestLoginErrorsOfTheSDK verifies the matches on the text of SDK errors. It fails
// if a release of the SDK changes the text.
func TestLoginErrorsOfTheSDK(t *testing.T) {
	for name, test := range map[string]struct {
		profile, token string // of the SSO session; empty if there is no file
		reason         Reason
	}{
		"SSO, not logged in":     {ssoSession, "", ReasonSSOExpired},
		"SSO, expired":           {ssoSession, `{"accessToken": "t", "expiresAt": "2020-01-01T00:00:00Z"}`, ReasonSSOExpired},
		"SSO, not a token":       {ssoSession, `[]`, ReasonSSOExpired},
		"SSO, empty token":       {ssoSession, `{}`, ReasonSSOExpired},
		"legacy SSO":             {legacySSO, "", ReasonSSOExpired},
		"aws login, not run yet": {"login_session = arn:aws:iam::111122223333:user/u", "", ReasonLoginExpired},
	} {
		t.Run(name, func(t *testing.T) {
			emptyEnvironment(t)
			home := t.TempDir()
			t.Setenv("HOME", home)
			t.Setenv("AWS_CONFIG_FILE", file(t, home, "config", "[profile p]\n"+test.profile+"\n"))
			if test.token != "" {
				path, err := ssocreds.StandardCachedTokenFilepath("s")
				if err != nil {
					t.Fatal(err)
				}
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				file(t, filepath.Dir(path), filepath.Base(path), test.token)
			}
			if failed := mustFail(t, "p"); failed.Code != test.reason {
				t.Errorf("got %s: %v", failed.Code, failed)
			}
		})
	}
}

const ssoSession = `sso_session = s
sso_account_id = 111122223333
sso_role_name = r
[sso-session s]
sso_region = eu-west-1
sso_start_url = https://example.com/start`

const legacySSO = `sso_region = eu-west-1
sso_start_url = https://example.com/start
sso_account_id = 111122223333
sso_role_name = r`

func TestReasonsOfRoles(t *testing.T) {
	emptyEnvironment(t)
	denied := operation("STS", "AssumeRole", apiError(403, "AccessDenied"))
	noIdentity := func(err error) error { return operation("STS", "AssumeRole", fmt.Errorf("get identity: %w", err)) }
	for name, test := range map[string]struct {
		err  error
		want Reason
	}{
		"denied":                 {denied, ReasonRoleDenied},
		"denied to web identity": {operation("STS", "AssumeRoleWithWebIdentity", apiError(403, "AccessDenied")), ReasonRoleDenied},
		"denied to an SSO user":  {operation("STS", "AssumeRole", apiMessage(403, "AccessDenied", "User: arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin/u")), ReasonRoleDenied},
		"denied to root":         {operation("STS", "AssumeRole", apiMessage(403, "AccessDenied", "Roles may not be assumed by root accounts.")), ReasonRoleDenied},
		"too long a session": {operation("STS", "AssumeRole", apiMessage(400, "ValidationError",
			"The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")), ReasonRoleRequestInvalid},
		"invalid request":    {operation("STS", "AssumeRole", apiMessage(400, "ValidationError", "x is invalid")), ReasonRoleRequestInvalid},
		"region is disabled": {operation("STS", "AssumeRole", apiError(403, "RegionDisabledException")), ReasonSTSRegionDisabled},
		"tags too long":      {operation("STS", "AssumeRole", apiError(400, "PackedPolicyTooLarge")), ReasonRolePolicyRefused},
		"malformed policy":   {operation("STS", "AssumeRole", apiError(400, "MalformedPolicyDocument")), ReasonRolePolicyRefused},
		"no OIDC provider": {operation("STS", "AssumeRoleWithWebIdentity", apiMessage(400, "InvalidIdentityToken",
			"No OpenIDConnect provider found in your account for https://oidc.example")), ReasonWebIdentityRefused},
		"another audience":          {operation("STS", "AssumeRoleWithWebIdentity", apiMessage(400, "InvalidIdentityToken", "Incorrect token audience")), ReasonWebIdentityRefused},
		"claim rejected":            {operation("STS", "AssumeRoleWithWebIdentity", apiError(403, "IDPRejectedClaim")), ReasonWebIdentityRefused},
		"web identity expired":      {operation("STS", "AssumeRoleWithWebIdentity", apiError(400, "ExpiredTokenException")), ReasonWebIdentityExpired},
		"not assigned in SSO":       {operation("SSO", "GetRoleCredentials", apiMessage(403, "ForbiddenException", "No access")), ReasonSSORoleDenied},
		"no permission to read":     {fmt.Errorf("failed to read cached SSO token file, %w", &fs.PathError{Op: "open", Path: "/x", Err: syscall.EACCES}), ReasonFileUnreadable},
		"first of two denied":       {noIdentity(denied), ReasonRoleDenied},
		"expired":                   {operation("STS", "AssumeRole", apiError(403, "ExpiredToken")), ReasonSourceCredentialsExpired},
		"refused":                   {operation("STS", "AssumeRole", apiError(403, "InvalidClientTokenId")), ReasonSourceCredentialsRefused},
		"not logged in":             {noIdentity(&ssocreds.InvalidTokenError{}), ReasonSSOExpired},
		"no credentials":            {noIdentity(operation("ec2imds", "GetMetadata", apiError(404, "NotFound"))), ReasonNoCredentials},
		"container endpoint failed": {noIdentity(status403{}), ReasonNoCredentials},
		"no pod identity":           {fmt.Errorf("failed to load credentials, %w", apiError(404, "ResourceNotFoundException")), ReasonContainerRefused},
		"answer of an HTTP proxy":   {operation("STS", "AssumeRole", apiError(403, noCode)), ReasonCredentialsUnavailable},
	} {
		if failed := (&Identity{}).explain(test.err, false); failed.Code != test.want || strings.Contains(failed.Message+failed.Hint, "{") {
			t.Errorf("%s: got %s (%v), want %s", name, failed.Code, failed, test.want)
		}
	}
}

// status403 is an error with a status that is not an AWS API's response.
type status403 struct{}

func (status403) Error() string       { return "forbidden" }
func (status403) HTTPStatusCode() int { return http.StatusForbidden }

func operation(service, name string, err error) error {
	return &smithy.OperationError{ServiceID: service, OperationName: name, Err: err}
}

// apiError returns the error of an API's response.
func apiError(status int, code string) error { return apiMessage(status, code, "") }

func apiMessage(status int, code, message string) error {
	return &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
		Err:      &smithy.GenericAPIError{Code: code, Message: message},
	}
}

// TestIsTransient verifies which failures a login waits for.
func TestIsTransient(t *testing.T) {
	refused := &smithyhttp.RequestSendError{Err: errors.New("connection refused")}
	for name, test := range map[string]struct {
		err              error
		first, hasWorked bool // transient for a new source, and for one that has worked
	}{
		"server error":              {apiError(503, "x"), true, true},
		"throttling":                {apiError(429, "x"), true, true},
		"throttling, by STS's code": {&smithy.GenericAPIError{Code: "Throttling"}, true, true},
		"identity provider down":    {&smithy.GenericAPIError{Code: "IDPCommunicationError"}, true, true},
		"refused by AWS":            {apiError(403, "x"), false, false},
		"refused":                   {refused, true, true},
		"no instance metadata":      {operation("ec2imds", "GetMetadata", refused), false, true},
		"logged out":                {&ssocreds.InvalidTokenError{Err: errors.New("expired")}, false, false},
		"SSO not reached":           {&ssocreds.InvalidTokenError{Err: refused}, true, true},
		"garbage":                   {errors.New("invalid character"), false, true},
		"fetch timed out":           {context.DeadlineExceeded, true, true},
	} {
		if got := isTransient(test.err, false); got != test.first {
			t.Errorf("%s: transient at first: %v", name, got)
		}
		if got := isTransient(test.err, true); got != test.hasWorked {
			t.Errorf("%s: transient after it has worked: %v", name, got)
		}
	}
}

// TestInstanceMetadataFails verifies that the instance metadata service counts as away
// if it exists and fails, and that a host without it has no credentials.
func TestInstanceMetadataFails(t *testing.T) {
	emptyEnvironment(t)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer service.Close()
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.URL)
	failed := operation("ec2imds", "GetMetadata", context.DeadlineExceeded) // the SDK drops the status
	if got := (&Identity{}).explain(failed, false); got.Code != ReasonCredentialsUnavailable || !got.Temporary() || got.Message != "no AWS credentials: EC2 metadata has not answered in time" {
		t.Errorf("got %s: %v", got.Code, got)
	}
	service.Close()
	if got := (&Identity{}).explain(failed, false); got.Code != ReasonNoCredentials || got.Temporary() {
		t.Errorf("without the service: got %s: %v", got.Code, got)
	}
}

// TestContainerEndpointFails verifies the errors of the agents of ECS and EKS as the SDK
// returns them.
func TestContainerEndpointFails(t *testing.T) {
	emptyEnvironment(t)
	const answered = "no AWS credentials: the container credentials endpoint answered "
	for name, test := range map[string]struct {
		status int
		body   string
		reason Reason
		want   string
	}{
		"denied":   {403, "", ReasonContainerRefused, answered + "with the HTTP status 403; its text is not shown"},
		"not JSON": {200, "<html>", ReasonContainerRefused, answered + "without credentials; its text is not shown"},
		"empty":    {200, "", ReasonContainerRefused, answered + "without credentials; its text is not shown"},
		"unknown":  {404, `{"code": "ResourceNotFoundException", "message": "none"}`, ReasonContainerRefused, answered},
	} {
		agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
		}))
		defer agent.Close()
		t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.URL)
		if failed := mustFail(t, ""); failed.Code != test.reason || !strings.HasPrefix(failed.Message, test.want) {
			t.Errorf("%s: got %s: %v", name, failed.Code, failed)
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

// mustFail requests a token without credentials and returns the error.
func mustFail(t *testing.T, profile string) *Error {
	t.Helper()
	identity := load(t, profile)
	_, err := (&Tokens{Endpoint: testEndpoint, Region: testRegion, Identity: identity}).Token(t.Context(), "u")
	var failed *Error
	if !errors.As(err, &failed) {
		t.Fatalf("got error %v", err)
	}
	return failed
}

// reasonOf returns the reason of err, or "".
func reasonOf(err error) Reason {
	var known *Error
	if errors.As(err, &known) {
		return known.Code
	}
	return ""
}

// file writes a file and returns its path.
func file(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// emptyEnvironment removes all AWS configuration from the environment.
func emptyEnvironment(t *testing.T) {
	t.Helper()
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	for _, platform := range platforms {
		t.Setenv(platform.variable, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
}
