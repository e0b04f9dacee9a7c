package pgwire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

type reasonError string

func (e reasonError) Error() string   { return "the session has expired" }
func (e reasonError) Reason() string  { return string(e) }
func (e reasonError) Advice() string  { return "sign in" }
func (e reasonError) Temporary() bool { return e == "away" }

func TestNewTokenError(t *testing.T) {
	for _, test := range []struct {
		err      error
		reason   Reason
		sqlstate string
		hint     string
	}{
		{errors.New("none"), NoToken, InvalidAuthorization, ""},
		{context.DeadlineExceeded, TokenTimeout, CannotConnectNow, ""},
		{fmt.Errorf("source: %w", reasonError("sso_expired")), "sso_expired", InvalidAuthorization, "sign in"},
		{reasonError("away"), "away", CannotConnectNow, "sign in"},
	} {
		got := NewTokenError("app", test.err)
		if got.Reason != test.reason || got.Code != test.sqlstate || got.Hint != test.hint || !errors.Is(got, test.err) {
			t.Errorf("%v: got %+v", test.err, got)
		}
	}
}

// Every text has a SQLSTATE and a message in one line, as PostgreSQL writes them.
func TestTexts(t *testing.T) {
	for reason, text := range texts {
		if len(text.code) != 5 || text.message == "" || strings.ContainsAny(text.message+text.hint, "\r\n") || strings.HasSuffix(text.message, ".") {
			t.Errorf("%s: %+v", reason, text)
		}
	}
}

// The texts of throttling count for an RDS Proxy only, whatever the SQLSTATE and the phase. Then the
// token was not refused.
func TestThrottledByRDSProxy(t *testing.T) {
	for _, message := range []string{"The IAM authentication failed because of too many competing requests.", "Rate of connection to proxy exceeded 600.",
		"IAM authentication failed: Too many competing requests", "rate of connection to proxy exceeded"} {
		for _, code := range []string{"28000", "28P01", "53300", "08006"} {
			for phase := BeforeToken; phase <= Authenticated; phase++ {
				var server *ServerError
				errors.As(NewServerError(Encode(&pgproto3.ErrorResponse{Code: code, Message: message}), phase), &server)
				if server.IsRateLimit() || server.Reason() == ProxyThrottled {
					t.Errorf("%s in phase %d: throttled without an RDS Proxy", code, phase)
				}
				server.RDSProxy = true
				if !server.IsRateLimit() || server.IsAuthFailure() || server.Reason() != ProxyThrottled || server.Checkable() || !server.Copy().IsRateLimit() {
					t.Errorf("%s in phase %d: %s", code, phase, server.Reason())
				}
			}
		}
	}
	if hint := ServerHint(ProxySecretMissing, "app"); !strings.HasPrefix(hint, `The RDS Proxy has no secret for user "app".`) {
		t.Errorf("hint %q", hint)
	}
}

// A hint of the proxy's is added to an error without one, after the messages before it.
func TestServerErrorResponse(t *testing.T) {
	notice := Encode(&pgproto3.NoticeResponse{Message: "before"})
	for name, test := range map[string]struct{ own, added, want string }{
		"added":        {"", "do\nthis", "do this"},
		"none":         {"", "", ""},
		"the server's": {"its own", "do this", "its own"},
	} {
		var server *ServerError
		if !errors.As(NewServerError(Encode(&pgproto3.ErrorResponse{Code: "28000", Message: "no", Hint: test.own}), TokenSent), &server) {
			t.Fatalf("%s: no ServerError", name)
		}
		server.Before, server.Hint = notice, test.added
		got, ok := strings.CutPrefix(string(server.ErrorResponse()), string(notice))
		var fields pgproto3.ErrorResponse
		messages := slices.Collect(func(yield func(Message) bool) {
			for _, m := range Messages([]byte(got)) {
				yield(m)
			}
		})
		if !ok || len(messages) != 1 || fields.Decode(messages[0].Body()) != nil || fields.Hint != test.want || fields.Message != "no" || ReasonOf(server) != TokenRefused {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestServerErrorReason(t *testing.T) {
	for _, test := range []struct {
		code, message string
		phase         LoginPhase
		want          Reason
	}{
		{"28000", "PAM authentication failed", TokenSent, TokenRefused},
		{"28000", "no pg_hba.conf entry", BeforeToken, ServerRefused},
		{"28000", "Rolle darf nicht anmelden", Authenticated, LoginNotPermitted},
		{"3D000", "no such database", Authenticated, ServerRefused},
		{"08006", "unable to accept connection, access denied", TokenSent, DSQLAccessDenied},
		{"08006", "unable to accept connection", TokenSent, ServerRefused},
		{"28P01", "This RDS proxy has no credentials for the role app.", TokenSent, ProxySecretMissing},
		{"28000", "IAM authentication is not allowed for the role app.", TokenSent, ProxyIAMNotAllowed},
		{"53300", "access denied", TokenSent, ServerRefused},
	} {
		err := NewServerError(Encode(&pgproto3.ErrorResponse{Code: test.code, Message: test.message}), test.phase)
		if got := ReasonOf(err); got != test.want || !got.FromServer() {
			t.Errorf("%s, %s: %s, want %s", test.code, test.message, got, test.want)
		}
	}
}
