package auth

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"iter"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/iamproxy/iamproxy/internal/text"
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
	// ReasonSourceCredentialsExpired and ReasonSourceCredentialsRefused, and for
	// ReasonCredentialsRejected to where the current ones come from.
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
	return e.Code.Temporary() || e.temporary && (e.Code == ReasonNoCredentials || e.Code == ReasonProcessFailed)
}

// Advice returns the hint.
func (e *Error) Advice() string { return e.Hint }

// ClientAdvice returns the hint for a client of a running iamproxy, which uses renewed
// logins and files without a restart.
func (e *Error) ClientAdvice() string {
	if len(e.Command) > 0 {
		return e.Hint + ", then connect again; iamproxy need not be restarted."
	}
	if e.Code == ReasonProcessTimeout {
		return e.Hint + " It goes on running, and a later login uses its answer."
	}
	return e.Hint
}

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
		explained.temporary = known.temporary || hasWorked
		return &explained
	}
	explained := i.classify(err)
	explained.temporary = isTransient(err, hasWorked)
	return explained
}

// classify returns the error for a failure of the SDK's chain of sources.
func (i *Identity) classify(err error) *Error {
	if known := i.configuredError(err); known != nil {
		return known
	}
	var unreadable *fs.PathError
	switch {
	case isTransient(err, false):
		return newError(ReasonCredentialsUnavailable, err, "{cause}", describe(err), "{advice}", unavailableAdvice(err))
	case errors.As(err, &unreadable) && !errors.Is(err, fs.ErrNotExist):
		return newError(ReasonFileUnreadable, err, "{file}", strconv.Quote(unreadable.Path), "{cause}", unreadable.Err.Error())
	case isSSODenial(err):
		return newError(ReasonSSORoleDenied, err, "{profile}", i.profileName(), "{cause}", describe(err))
	case isSSOError(err):
		state := "has expired"
		if errors.Is(err, fs.ErrNotExist) {
			state = "does not exist"
		}
		return i.loginError(ReasonSSOExpired, err, state, "aws", "sso", "login")
	case isLoginError(err):
		return i.loginError(ReasonLoginExpired, err, "", "aws", "login")
	case isProcessError(err):
		return newError(ReasonProcessFailed, err, "{profile}", i.profileName(), "{cause}", describeProcess(err))
	case isContainerError(err) && (status(err) != 0 || isUnreadable(err)):
		return newError(ReasonContainerRefused, err, "{cause}", describe(err))
	case isForeign(err):
		return newError(ReasonCredentialsUnavailable, err, "{cause}", describe(err), "{advice}", foreignAdvice)
	case hasOperation(err, sts.ServiceID, "AssumeRole") && slices.Contains(Refusals, errorCode(err)):
		return i.refusedError(err)
	case isRoleRefused(err):
		return newError(refusalReason(err), err, "{cause}", describe(err), "{advice}", i.roleAdvice(err))
	case hasOperation(err, "ec2imds", ""):
		return newError(ReasonNoCredentials, err, "{cause}", "tried: "+i.tried(), "{advice}", noCredentialsAdvice())
	default:
		return newError(ReasonNoCredentials, err, "{cause}", describe(err), "{advice}", noCredentialsAdvice())
	}
}

// noCredentialsAdvice returns the hint about a process without a source of credentials.
func noCredentialsAdvice() string {
	return cmp.Or(PlatformAdvice(), "Log in with aws sso login --profile NAME, or attach a role: a task role in ECS, a service account's role in EKS, an instance profile in EC2. Keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY work, too.")
}

// roleAdvice returns the hint about a role that STS denies to the caller.
func (i *Identity) roleAdvice(err error) string {
	if hasOperation(err, sts.ServiceID, "AssumeRoleWithWebIdentity") {
		return i.webIdentityAdvice()
	}
	return "Check that the role exists, and that its trust policy allows the caller (sts:AssumeRole). If the policy requires an external ID, check --external-id. A root user cannot assume roles. The command aws sts get-caller-identity shows the caller."
}

// tried lists the sources that the chain has tried.
func (i *Identity) tried() string {
	metadata := "EC2 metadata"
	if strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		metadata += " (disabled)"
	}
	sources := "profile " + i.profileName() + ", container, " + metadata
	if i.Profile == "" {
		sources = "environment variables, " + sources
	}
	return sources
}

// loginError returns the error of a session that the user has to renew with
// command.
func (i *Identity) loginError(reason Reason, err error, state string, command ...string) *Error {
	if profile := i.profile(); profile != "" {
		command = append(command, "--profile", profile)
	}
	explained := newError(reason, err, "{profile}", i.profileName(), "{state}", state, "{command}", text.ShellCommand(command...))
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
	explained := newError(reason, err, "{source}", source.String(), "{code}", code, "{remedy}", source.remedy())
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
		return hasWorked || !hasOperation(err, "ec2imds", "") || errors.Is(err, context.DeadlineExceeded) && metadataListens()
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

// noCode is the SDK's code for an error response without one.
const noCode = "UnknownError"

// errorCode returns the code of the AWS API's error response in err, or "".
func errorCode(err error) string {
	var response smithy.APIError
	if errors.As(err, &response) && response.ErrorCode() != noCode {
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

// isContainerError reports whether the container credentials endpoint of ECS or EKS
// failed. The SDK has no type for it: credentials/endpointcreds/provider.go.
func isContainerError(err error) bool {
	return strings.Contains(err.Error(), "failed to load credentials, ")
}

// isUnreadable reports whether the SDK could not read the answer.
func isUnreadable(err error) bool {
	return errors.As(err, new(*smithy.DeserializationError))
}

// isForeign reports whether another system, such as an HTTP proxy, answered in place of
// STS: the answer has no error code.
func isForeign(err error) bool { return isRoleRefused(err) && errorCode(err) == "" }

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

// isSSODenial reports whether the portal of SSO accepts the login, but denies the
// role to the user.
// https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html
func isSSODenial(err error) bool {
	return hasOperation(err, "SSO", "GetRoleCredentials") &&
		slices.Contains([]string{"ForbiddenException", "ResourceNotFoundException"}, errorCode(err))
}

// isProcessError reports whether a credential_process failed.
func isProcessError(err error) bool {
	var failed *processcreds.ProviderError
	return errors.As(err, &failed)
}

// isRoleRefused reports whether STS refused the request to assume a role. If the
// credentials for that request could not be fetched, it did not.
func isRoleRefused(err error) bool {
	last := lastOperation(err)
	var response *smithyhttp.ResponseError
	return last != nil && last.ServiceID == sts.ServiceID &&
		(last.OperationName == "AssumeRole" || last.OperationName == "AssumeRoleWithWebIdentity") &&
		errors.As(last.Err, &response)
}

// roleRefusals maps the codes with which STS refuses to assume a role to reasons.
//
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
var roleRefusals = map[string]Reason{
	"AccessDenied":            ReasonRoleDenied,
	"ExpiredToken":            ReasonWebIdentityExpired, // of AssumeRole it is among Refusals
	"IDPRejectedClaim":        ReasonWebIdentityRefused,
	"InvalidIdentityToken":    ReasonWebIdentityRefused,
	"MalformedPolicyDocument": ReasonRolePolicyRefused,
	"PackedPolicyTooLarge":    ReasonRolePolicyRefused,
	"RegionDisabled":          ReasonSTSRegionDisabled,
}

// refusalReason returns the reason for which STS refuses to assume a role. Some of
// the codes have the suffix Exception in one protocol, and not in another.
func refusalReason(err error) Reason {
	return cmp.Or(roleRefusals[strings.TrimSuffix(errorCode(err), "Exception")], ReasonRoleRequestInvalid)
}

// lastOperation returns the innermost failed operation, or nil.
func lastOperation(err error) (last *smithy.OperationError) {
	for operation := range operations(err) {
		last = operation
	}
	return last
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

// Refusals lists AWS's error codes for credentials that are expired or invalid.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_general.html
// https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
var Refusals = []string{
	"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException",
	"SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthenticationToken",
}
