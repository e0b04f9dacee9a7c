package auth

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTexts verifies that each reason has a message.
func TestTexts(t *testing.T) {
	source, err := os.ReadFile("reason.go")
	if err != nil {
		t.Fatal(err)
	}
	constants := regexp.MustCompile(`(?m)^\tReason\w+ Reason = "(\w+)"`).FindAllSubmatch(source, -1)
	if len(constants) != len(texts) {
		t.Errorf("%d reasons, %d texts", len(constants), len(texts))
	}
	for _, match := range constants {
		if texts[Reason(match[1])].message == "" {
			t.Errorf("%s has no message", match[1])
		}
	}
	for reason, text := range texts {
		if strings.ContainsAny(text.message+text.hint, "\n\r") {
			t.Errorf("%s has more than one line", reason)
		}
	}
}

// TestReason verifies that packages that do not import auth can get the reason.
func TestReason(t *testing.T) {
	err := fmt.Errorf("login: %w", newError(ReasonCredentialsExpired, nil, "{time}", "noon"))
	var reasoned interface{ Reason() string }
	if !errors.As(err, &reasoned) || reasoned.Reason() != "credentials_expired" {
		t.Errorf("got %v", reasoned)
	}
	if err.Error() != "login: the AWS credentials expired at noon" {
		t.Errorf("got %q", err)
	}
}
