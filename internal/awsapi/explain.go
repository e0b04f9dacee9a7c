package awsapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/iamproxy/iamproxy/internal/text"
)

// Kinds of errors, for errors.Is. Each has its own text, in one line. ErrNotPermitted and
// ErrUnreachable imply nothing about a resource.
var (
	// ErrNotPermitted means that the caller lacks a permission, or that AWS does not
	// support the request for this kind of caller.
	ErrNotPermitted = errors.New("not permitted")
	// ErrCredentials means that AWS refused the credentials.
	ErrCredentials = errors.New("AWS rejects the credentials")
	// ErrUnreachable means that the service did not answer or is unavailable, as from a
	// subnet that has neither a route to the internet nor a VPC endpoint.
	ErrUnreachable = errors.New("could not reach AWS")
)

// Error is a failed request, for users. It does not wrap the SDK's error, which has a request ID
// and may quote the signed request with its session token.
type Error struct {
	Text string // one line
	Kind error  // ErrNotPermitted and so on, context.Canceled, or nil
	// Code is the code of the service without the suffix Exception, or empty.
	Code string
	// Denied is what the service names if Kind is ErrNotPermitted.
	Denied Denied
}

func (e *Error) Error() string { return e.Text }

func (e *Error) Unwrap() error { return e.Kind }

// services maps the prefixes of actions to the names of services.
var services = map[string]string{"rds": "RDS", "iam": "IAM", "secretsmanager": "Secrets Manager", "ssm": "Systems Manager"}

// Explain returns the error for a failed request. action is a permission, such as
// "rds:DescribeDBClusters".
func Explain(action string, err error) *Error {
	prefix, _, _ := strings.Cut(action, ":")
	service := services[prefix]
	var answer smithy.APIError
	var response *smithyhttp.ResponseError
	var unsent *smithyhttp.RequestSendError
	switch {
	case errors.Is(err, context.Canceled):
		return &Error{Text: fmt.Sprintf("%s was canceled", action), Kind: context.Canceled}
	case errors.As(err, &answer):
		return responseError(service, action, answer, status(err))
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Text: fmt.Sprintf("no answer from %s's API in time", service), Kind: ErrUnreachable}
	case errors.As(err, &unsent):
		return &Error{Text: fmt.Sprintf("could not reach %s's API: %s", service, sendErrorText(unsent)), Kind: ErrUnreachable}
	case errors.As(err, &response):
		return notAWS(service, response.HTTPStatusCode())
	default:
		return &Error{Text: fmt.Sprintf("%s: %s", action, innermost(err))}
	}
}

// notAWS returns the error for a response that AWS does not send.
func notAWS(service string, status int) *Error {
	return &Error{Text: fmt.Sprintf("the response to a request to %s's API is not from AWS (status %d); check for a proxy that answers instead",
		service, status), Kind: ErrUnreachable}
}

// responseError returns the error for a service's error response. The codes are listed under
// "Common errors" in the API references of the services.
// https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html
func responseError(service, action string, answer smithy.APIError, status int) *Error {
	// Services with the JSON protocol add a suffix to the codes.
	code := strings.TrimSuffix(firstLine(answer.ErrorCode()), "Exception")
	failed := codeError(service, action, code, answer, status)
	failed.Code = code
	return failed
}

func codeError(service, action, code string, answer smithy.APIError, status int) *Error {
	switch code {
	case "AccessDenied", "UnauthorizedOperation", "NotAuthorized":
		return accessDenied(action, answer.ErrorMessage())
	case "ExpiredToken", "RequestExpired":
		return &Error{Text: "AWS rejects the credentials: they have expired", Kind: ErrCredentials}
	case "InvalidClientTokenId", "UnrecognizedClient":
		return &Error{Text: "AWS rejects the credentials: the access key or session token is unknown, " +
			"or the region is not enabled in the account", Kind: ErrCredentials}
	case "SignatureDoesNotMatch", "InvalidSignature", "IncompleteSignature", "MissingAuthenticationToken":
		return &Error{Text: "AWS rejects the credentials: the signature does not match; " +
			"the secret access key is wrong, or this machine's clock is off", Kind: ErrCredentials}
	case "Throttling", "RequestLimitExceeded", "TooManyRequests":
		return &Error{Text: fmt.Sprintf("%s's API throttles requests (%s); try again", service, code), Kind: ErrUnreachable}
	default:
		if code == NoCode && status < http.StatusInternalServerError {
			return notAWS(service, status)
		}
		if status >= http.StatusInternalServerError {
			return &Error{Text: fmt.Sprintf("%s's API failed (status %d, %s); try again", service, status, code), Kind: ErrUnreachable}
		}
		return &Error{Text: fmt.Sprintf("%s: %s: %s", action, code, firstLine(answer.ErrorMessage()))}
	}
}

// Denied is what a message of AWS about a missing permission names. Resource and Policy may be
// empty.
type Denied struct {
	// Action is the missing permission, such as ssm:StartSession. It may differ from that
	// of the request.
	Action string
	// Unnamed is set if AWS names no action. Action is that of the request then.
	Unnamed bool
	// Resource is an ARN.
	Resource string
	// Policy is the type of policy that is missing or denies the action.
	Policy string
}

// No field of a response has what the message names.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
var (
	deniedAction   = text.Regexp(`not authorized to perform: ([a-z0-9-]+:[A-Za-z0-9]+)`)
	deniedResource = text.Regexp(`on resource: (arn:[A-Za-z0-9:/_*.+=,@-]+)`)
	denyingPolicy  = text.Regexp(`(?:because|with) (?:an |a |the )?((?:no|explicit) .*)`)
)

// parseDenied parses a message of one line.
func parseDenied(message string) Denied {
	find := func(pattern func() *regexp.Regexp) string {
		if m := pattern().FindStringSubmatch(message); m != nil {
			return m[1]
		}
		return ""
	}
	return Denied{Action: find(deniedAction), Resource: find(deniedResource), Policy: find(denyingPolicy)}
}

// accessDenied returns the error for a missing permission.
func accessDenied(action, message string) *Error {
	message = firstLine(message)
	denied := parseDenied(message)
	if denied.Action == "" {
		denied.Action, denied.Unnamed = action, true
	}
	text := denied.Action + " is not allowed"
	if denied.Policy != "" {
		text += ": " + denied.Policy
	}
	return &Error{Text: text, Kind: ErrNotPermitted, Denied: denied}
}

// status returns the status of the HTTP response that caused err, or 0.
func status(err error) int {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}

// sendErrorText describes why a request could not be sent. It has the host, but not the rest
// of the URL.
func sendErrorText(err error) string {
	var request *url.Error
	if !errors.As(err, &request) {
		return innermost(err)
	}
	cause := cmp.Or(text.NetworkCause(err), firstLine(request.Err.Error()))
	parsed, parseErr := url.Parse(request.URL)
	if parseErr != nil {
		return cause
	}
	return parsed.Host + ThroughProxy(parsed) + ": " + cause
}

// ThroughProxy returns the HTTP proxy for a URL as the part of a message that follows the host, or
// "" if there is none. It does not contain the proxy's password.
func ThroughProxy(u *url.URL) string {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u})
	if err != nil || proxy == nil {
		return ""
	}
	return fmt.Sprintf(" through the HTTP proxy %q (%s_PROXY)", proxy.Host, strings.ToUpper(u.Scheme))
}

// innermost returns the text of the last error in err's chain.
func innermost(err error) string {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return firstLine(err.Error())
}

// firstLine returns the first line of text, or a substitute if that is empty.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return cmp.Or(strings.TrimSpace(line), "no reason given")
}
