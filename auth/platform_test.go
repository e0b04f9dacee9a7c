package auth

import (
	"encoding/base64"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// TestPlatformAdvice verifies that a process without credentials in a task or pod is not advised
// to log in at a terminal.
func TestPlatformAdvice(t *testing.T) {
	emptyEnvironment(t)
	if hint := mustFail(t, "").Hint; !strings.HasPrefix(hint, "Log in with aws sso login") {
		t.Errorf("at a terminal: %q", hint)
	}
	for _, platform := range platforms {
		t.Run(platform.variable, func(t *testing.T) {
			t.Setenv(platform.variable, "x")
			if hint := mustFail(t, "").Hint; hint != platform.advice {
				t.Errorf("got %q", hint)
			}
		})
	}
}

// TestWebIdentityAdvice verifies that the hint about a denied web identity has the claims of the
// token.
func TestWebIdentityAdvice(t *testing.T) {
	emptyEnvironment(t)
	denied := operation("STS", "AssumeRoleWithWebIdentity", apiError(403, "AccessDenied"))
	file := filepath.Join(t.TempDir(), "token")
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"aud": ["sts.amazonaws.com"], "iss": "https://oidc.example/id/X", "sub": "system:serviceaccount:app:app"}`))
	const named = `of the token, "https://oidc.example/id/X" and "system:serviceaccount:app:app" (sts:AssumeRoleWithWebIdentity)`
	for token, want := range map[string]string{
		"e30." + claims + ".AAAA": named,
		"e30.e30.AAAA":            "of the token (sts:AssumeRoleWithWebIdentity)",
		"e30.?.AAAA":              "of the token (sts:AssumeRoleWithWebIdentity)",
		"a token":                 "of the token (sts:AssumeRoleWithWebIdentity)",
	} {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := (&Identity{}).explain(denied, false); got.Code != ReasonRoleDenied || !strings.Contains(got.Hint, want) {
			t.Errorf("%s: got %s, hint %q", token, got.Code, got.Hint)
		}
	}
}

// TestPodIdentityAgentUnreachable verifies that the hint names the add-on of the agent.
func TestPodIdentityAgentUnreachable(t *testing.T) {
	emptyEnvironment(t)
	for host, named := range map[string]bool{"169.254.170.23": true, "[fd00:ec2::23]": true, "127.0.0.1:1": false} {
		address := "http://" + host + "/v1/credentials"
		t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)
		unsent := &smithyhttp.RequestSendError{Err: &url.Error{Op: "Get", URL: address, Err: &net.OpError{Op: "dial", Err: syscall.ENETUNREACH}}}
		got := (&Identity{}).Unreachable(unsent)
		if got == nil || got.Code != ReasonEndpointUnreachable || strings.Contains(got.Hint, "eks-pod-identity-agent") != named {
			t.Errorf("%s: got %v", host, got)
		}
	}
}

// TestProxyInAdvice verifies that the hint names the variable that the request uses.
func TestProxyInAdvice(t *testing.T) {
	for address, want := range map[string]string{"https://sts.example/": "(HTTPS_PROXY)", "http://sts.example/": "(HTTP_PROXY)"} {
		unsent := &smithyhttp.RequestSendError{Err: &url.Error{Op: "Post", URL: address, Err: errors.New("lost")}}
		if got := unavailableAdvice(operation("STS", "AssumeRole", unsent)); !strings.Contains(got, want) {
			t.Errorf("%s: got %q", address, got)
		}
	}
}
