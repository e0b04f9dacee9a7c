package auth

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Error reports why there is no token.
type Error struct {
	Code    Reason
	Message string // may be shown to users
	Hint    string // how to fix it; may be empty
	// Command is the argument list of the one command that fixes it. It is set for
	// ReasonSSOExpired and ReasonLoginExpired.
	Command []string
	// Source is where the credentials that assume the role come from. It is set for
	// ReasonSourceCredentialsExpired and ReasonSourceCredentialsRefused.
	Source Source
	Err    error // the cause; may be nil, and may contain secrets

	temporary bool // a later attempt may succeed without intervention
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

// Reason returns the code as a string. Packages that do not import auth get it
// with errors.As and an interface.
func (e *Error) Reason() string { return string(e.Code) }

// Temporary reports whether the source of the credentials is likely to recover without
// intervention.
func (e *Error) Temporary() bool {
	return e.Code.Temporary() || e.Code == ReasonNoCredentials && e.temporary
}

// Advice returns the hint.
func (e *Error) Advice() string { return e.Hint }

func isTemporary(err error) bool {
	var known *Error
	return errors.As(err, &known) && known.temporary
}

// explain returns the error for a failed fetch. hasWorked reports whether the
// source has returned credentials before.
func (i *Identity) explain(err error, hasWorked bool) *Error {
	var known *Error
	if errors.As(err, &known) {
		explained := *known
		explained.temporary = hasWorked
		return &explained
	}
	explained := i.classify(err)
	explained.temporary = isTransient(err, hasWorked)
	return explained
}

// classify returns the error for a failure of the SDK's chain of sources.
func (i *Identity) classify(err error) *Error {
	if known := i.fileError(err); known != nil {
		return known
	}
	switch {
	case isTransient(err, false):
		return newError(ReasonCredentialsUnavailable, err, "{cause}", redact(err))
	case isSSOError(err):
		return i.loginError(ReasonSSOExpired, err, "aws", "sso", "login")
	case isLoginError(err):
		return i.loginError(ReasonLoginExpired, err, "aws", "login")
	case hasOperation(err, sts.ServiceID, "AssumeRole") && slices.Contains(Refusals, errorCode(err)):
		return i.refusedError(err)
	case isRoleDenied(err):
		return newError(ReasonRoleDenied, err, "{cause}", redact(err))
	default:
		return newError(ReasonNoCredentials, err, "{cause}", redact(err))
	}
}

// loginError returns the error of a session that the user has to renew with
// command.
func (i *Identity) loginError(reason Reason, err error, command ...string) *Error {
	if profile := i.profile(); profile != "" {
		command = append(command, "--profile", profile)
	}
	explained := newError(reason, err, "{cause}", redact(err), "{command}", strings.Join(command, " "))
	explained.Command = command
	return explained
}

// refusedError returns the error of credentials with which STS lets no role be
// assumed.
func (i *Identity) refusedError(err error) *Error {
	reason, code := ReasonSourceCredentialsRefused, errorCode(err)
	if strings.HasPrefix(code, "Expired") {
		reason = ReasonSourceCredentialsExpired
	}
	source := i.assumingSource()
	explained := newError(reason, err, "{source}", source.String(), "{code}", code)
	explained.Source = source
	return explained
}

// assumingSource returns where the credentials come from that assume the first
// of Roles.
func (i *Identity) assumingSource() Source {
	if source, ok := i.loaded().(*chain); ok && source.base != nil {
		if creds, err := source.base.Retrieve(context.Background()); err == nil { // from its cache
			return i.sourceOf(creds)
		}
	}
	return Source{Kind: SourceProfile}
}

// isTransient reports whether a source's failure is likely to pass. A source that
// has worked before is not misconfigured, so that all but a definite refusal is.
func isTransient(err error, hasWorked bool) bool {
	var unreachable *smithyhttp.RequestSendError
	var loggedOut *ssocreds.InvalidTokenError
	switch s := status(err); {
	case s >= http.StatusInternalServerError || isThrottled(err):
		return true
	case s >= http.StatusBadRequest:
		return false
	case errors.As(err, &unreachable) || errors.Is(err, context.DeadlineExceeded):
		// The instance metadata service is the last resort of the chain, even on a
		// laptop that has none.
		return hasWorked || !hasOperation(err, "ec2imds", "")
	case errors.As(err, &loggedOut):
		return false // after the case above, whose errors it may wrap
	default:
		return hasWorked
	}
}

// status returns the status of the HTTP response that caused err, or 0.
func status(err error) int {
	var response interface{ HTTPStatusCode() int }
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}

// errorCode returns the code of the AWS API's error response in err, or "".
func errorCode(err error) string {
	var response smithy.APIError
	if errors.As(err, &response) {
		return response.ErrorCode()
	}
	return ""
}

// isThrottled reports whether AWS requests a later attempt. STS uses
// IDPCommunicationError if it cannot reach an identity provider.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
func isThrottled(err error) bool {
	code := errorCode(err)
	_, throttled := retry.DefaultThrottleErrorCodes[code]
	return throttled || code == "IDPCommunicationError" || status(err) == http.StatusTooManyRequests
}

// isSSOError reports whether the SSO session cannot be used.
func isSSOError(err error) bool {
	var loggedOut *ssocreds.InvalidTokenError
	return errors.As(err, &loggedOut) ||
		hasOperation(err, "SSO", "") || hasOperation(err, "SSO OIDC", "") ||
		// The SDK has no type for a cached token that is missing, unreadable or
		// expired: credentials/ssocreds/sso_cached_token.go, sso_token_provider.go.
		strings.Contains(err.Error(), "cached SSO token")
}

// isLoginError reports whether the session of `aws login` has ended. The SDK has
// no type for it: credentials/logincreds/provider.go.
func isLoginError(err error) bool {
	return strings.Contains(err.Error(), "please reauthenticate")
}

// isRoleDenied reports whether STS refused the request to assume a role. If the
// credentials for that request could not be fetched, it did not.
func isRoleDenied(err error) bool {
	var last *smithy.OperationError
	for operation := range operations(err) {
		last = operation
	}
	var response *smithyhttp.ResponseError
	return last != nil && last.ServiceID == sts.ServiceID &&
		(last.OperationName == "AssumeRole" || last.OperationName == "AssumeRoleWithWebIdentity") &&
		errors.As(last.Err, &response)
}

// hasOperation reports whether an operation of the service failed. An empty name
// matches all of them.
func hasOperation(err error, service, name string) bool {
	for operation := range operations(err) {
		if operation.ServiceID == service && (name == "" || operation.OperationName == name) {
			return true
		}
	}
	return false
}

// operations yields the failed operations in err, outermost first: a source may
// need another one for its request.
func operations(err error) iter.Seq[*smithy.OperationError] {
	return func(yield func(*smithy.OperationError) bool) {
		var operation *smithy.OperationError
		for errors.As(err, &operation) && yield(operation) {
			err = operation.Err
		}
	}
}

// redact returns the text of err without what a source of credentials printed.
// The SDK quotes such output if it cannot parse it, and it may contain a key.
func redact(err error) string {
	text := err.Error()
	// The SDK has no type for it: credentials/processcreds/provider.go.
	if before, _, found := strings.Cut(text, "process output: "); found {
		return before + "process output, which is not shown"
	}
	var response smithy.APIError
	if errors.As(err, &response) && response.ErrorCode() == "" && response.ErrorMessage() != "" {
		return strings.ReplaceAll(text, response.ErrorMessage(), "an answer that is not shown")
	}
	return text
}

// Refusals lists AWS's error codes for credentials that are expired or invalid.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_general.html
// https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
var Refusals = []string{
	"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException",
	"SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthenticationToken",
}
