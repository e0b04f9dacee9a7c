package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Error is a failure to get a token.
type Error struct {
	Message string // what failed and why, fit to be shown
	Hint    string // what to do about it; may be empty
	// Command is what to run, word by word, where one command is all that it takes.
	Command []string
	// None reports whether nobody gives out any credentials here.
	None bool
	// Refused is where the credentials are from, in words, that AWS does not take to assume
	// a role with; empty if it is not that.
	Refused string
	Err     error // the cause, which may hold what is not to be shown; may be nil

	temporary bool // it may work a little later without anybody doing anything
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

// Advice is what a person can do about the failure, in one line.
func (e *Error) Advice() string { return e.Hint }

func isTemporary(err error) bool {
	var known *Error
	return errors.As(err, &known) && known.temporary
}

// explain is a source's failure as it is told.
func (i *Identity) explain(err error, hasWorked bool) *Error {
	var known *Error
	if errors.As(err, &known) {
		explained := *known
		explained.temporary = hasWorked
		return &explained
	}
	explained := &Error{Message: "no AWS credentials: " + redact(err), Err: err, temporary: isTransient(err, hasWorked)}
	i.advise(explained)
	return explained
}

// passes reports whether a source's failure is likely to pass. One that has worked
// before is not misconfigured: of it, all but a clear no is.
func isTransient(err error, hasWorked bool) bool {
	var unreachable *smithyhttp.RequestSendError
	var loggedOut *ssocreds.InvalidTokenError
	switch s := status(err); {
	case s >= http.StatusInternalServerError || isThrottled(err):
		return true
	case s >= http.StatusBadRequest:
		return false
	case errors.As(err, &unreachable) || errors.Is(err, context.DeadlineExceeded):
		// The instance's metadata are asked where there is nothing else, be it on
		// a laptop.
		return hasWorked || !strings.Contains(err.Error(), "EC2 IMDS")
	case errors.As(err, &loggedOut):
		return false // told apart from what is above: that is wrapped in it, too
	default:
		return hasWorked
	}
}

// status is that of the HTTP answer that an error comes from; 0 if from none.
func status(err error) int {
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) {
		return answer.HTTPStatusCode()
	}
	return 0
}

// saysLater is about the answers that services give with statuses that are not
// for it: throttling, and an identity provider that STS does not reach.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
func isThrottled(err error) bool {
	var answer interface{ ErrorCode() string }
	return status(err) == http.StatusTooManyRequests || errors.As(err, &answer) &&
		slices.Contains([]string{"Throttling", "ThrottlingException", "RequestLimitExceeded", "IDPCommunicationError"}, answer.ErrorCode())
}

// reason is the text of an error of the chain without what a source of
// credentials printed, which the SDK quotes where it cannot read it: there may
// well be a key in it.
func redact(err error) string {
	text := err.Error()
	if before, _, found := strings.Cut(text, "process output: "); found {
		return before + "process output, which is not shown"
	}
	var answer interface{ ErrorCode() string }
	var quoted interface{ ErrorMessage() string }
	if errors.As(err, &answer) && answer.ErrorCode() == "" && errors.As(err, &quoted) && quoted.ErrorMessage() != "" {
		return strings.ReplaceAll(text, quoted.ErrorMessage(), "an answer that is not shown")
	}
	return text
}

// Rejections are AWS's codes for credentials that it does not take.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_general.html
// https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
var Rejections = []string{
	"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException",
	"SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthenticationToken",
}

// advise says what to do about a failure of the chain.
func (i *Identity) advise(e *Error) {
	err, text := e.Err, e.Err.Error()
	var loggedOut *ssocreds.InvalidTokenError
	var answer interface{ ErrorCode() string }
	switch {
	case isTransient(err, false):
		e.Hint = "whoever gives out the AWS credentials does not work or cannot be reached; check that this host gets there, and that NO_PROXY has 169.254.170.2, 169.254.170.23 and 169.254.169.254 if there is an HTTP proxy"
	case errors.As(err, &loggedOut) || strings.Contains(text, "SSO"):
		i.logIn(e, "aws", "sso", "login")
	case strings.Contains(text, "please reauthenticate"):
		i.logIn(e, "aws", "login")
	case strings.Contains(text, "operation error STS: AssumeRole,") && errors.As(err, &answer) && slices.Contains(Rejections, answer.ErrorCode()):
		i.refuse(e, answer.ErrorCode())
	case strings.Contains(text, "operation error STS: AssumeRole") && status(err) != 0 && !strings.Contains(text, "get identity"):
		e.Hint = "the role's trust policy has to allow whoever assumes it (sts:AssumeRole, or sts:AssumeRoleWithWebIdentity), with the external id if it asks for one; `aws sts get-caller-identity` shows who that is"
	default:
		e.None = true
		e.Hint = "give iamproxy a task role, a pod identity, a profile (--profile) or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `aws sts get-caller-identity` shows what is found"
	}
}

// refuse is about credentials that AWS does not take to assume a role with.
func (i *Identity) refuse(e *Error, code string) {
	why := "not valid"
	if strings.HasPrefix(code, "Expired") {
		why = "expired"
	}
	e.Refused = i.assumingCredentials()
	e.Message = fmt.Sprintf("no AWS credentials: those that are to assume the role, from %s, are %s (%s)", e.Refused, why, code)
	e.Hint = "renew them where they come from"
}

// assumer is where the credentials come from that assume the first of Roles.
func (i *Identity) assumingCredentials() string {
	if source, ok := i.loaded().(*chain); ok && source.base != nil {
		if creds, err := source.base.Retrieve(context.Background()); err == nil { // from its cache
			return i.sourceName(creds)
		}
	}
	return "the profile's own source"
}

func (i *Identity) logIn(e *Error, command ...string) {
	if profile := i.profile(); profile != "" {
		command = append(command, "--profile", profile)
	}
	e.Command = command
	e.Hint = "run `" + strings.Join(command, " ") + "`, then connect again; iamproxy need not be restarted"
}

// mfaHint goes with the one failure of Load that names no way out.
const mfaHint = "the profile wants a code (mfa_serial), and nobody can be asked for it here; use a profile that gets its keys from `aws configure export-credentials` by credential_process, or SSO"

// loadError adds to a failure to read the configuration what to do about it.
func loadError(err error) error {
	if errors.As(err, new(config.AssumeRoleTokenProviderNotSetError)) {
		return errors.New(mfaHint)
	}
	return err
}
