package rdsapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/iamproxy/iamproxy/internal/awsapi"
	"github.com/iamproxy/iamproxy/internal/text"
)

// apiError is a failed request. It does not wrap the SDK's error, which has a request ID and
// may quote the signed request with its session token.
type apiError struct {
	text string
	kind error // ErrNotPermitted and so on, or nil
}

func (e *apiError) Error() string { return e.text }

func (e *apiError) Unwrap() error { return e.kind }

// services maps the prefixes of actions to the names of services.
var services = map[string]string{"rds": "RDS", "iam": "IAM", "secretsmanager": "Secrets Manager"}

// explain returns the error for a failed request. action is a permission, such as
// "rds:DescribeDBClusters".
func explain(action string, err error) error {
	prefix, _, _ := strings.Cut(action, ":")
	service := services[prefix]
	var answer smithy.APIError
	var response *smithyhttp.ResponseError
	var unsent *smithyhttp.RequestSendError
	switch {
	case errors.Is(err, context.Canceled):
		return &apiError{fmt.Sprintf("%s was canceled", action), context.Canceled}
	case errors.As(err, &answer):
		return responseError(service, action, answer, status(err))
	case errors.Is(err, context.DeadlineExceeded):
		return &apiError{fmt.Sprintf("no answer from %s's API in time", service), ErrUnreachable}
	case errors.As(err, &unsent):
		return &apiError{fmt.Sprintf("could not reach %s's API: %s", service, sendErrorText(unsent)), ErrUnreachable}
	case errors.As(err, &response):
		return notAWS(service, response.HTTPStatusCode())
	default:
		return &apiError{fmt.Sprintf("%s: %s", action, innermost(err)), nil}
	}
}

// notAWS returns the error for a response that AWS does not send.
func notAWS(service string, status int) error {
	return &apiError{fmt.Sprintf("the response to a request to %s's API is not from AWS (status %d); check for a proxy that answers instead",
		service, status), ErrUnreachable}
}

// responseError returns the error for a service's error response. The codes are listed under
// "Common errors" in the API references of the services.
// https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html
func responseError(service, action string, answer smithy.APIError, status int) error {
	// Services with the JSON protocol add a suffix to the codes.
	switch code := strings.TrimSuffix(firstLine(answer.ErrorCode()), "Exception"); code {
	case "AccessDenied", "UnauthorizedOperation", "NotAuthorized":
		return accessDenied(action, answer.ErrorMessage())
	case "ExpiredToken", "RequestExpired":
		return &apiError{"AWS rejects the credentials: they have expired", ErrCredentials}
	case "InvalidClientTokenId", "UnrecognizedClient":
		return &apiError{"AWS rejects the credentials: the access key or session token is unknown, " +
			"or the region is not enabled in the account", ErrCredentials}
	case "SignatureDoesNotMatch", "InvalidSignature", "IncompleteSignature", "MissingAuthenticationToken":
		return &apiError{"AWS rejects the credentials: the signature does not match; " +
			"the secret access key is wrong, or this machine's clock is off", ErrCredentials}
	case "Throttling", "RequestLimitExceeded", "TooManyRequests":
		return &apiError{fmt.Sprintf("%s's API throttles requests (%s); try again", service, code), ErrUnreachable}
	default:
		if code == awsapi.NoCode && status < http.StatusInternalServerError {
			return notAWS(service, status)
		}
		if status >= http.StatusInternalServerError {
			return &apiError{fmt.Sprintf("%s's API failed (status %d, %s); try again", service, status, code), ErrUnreachable}
		}
		return &apiError{fmt.Sprintf("%s: %s: %s", action, code, firstLine(answer.ErrorMessage())), nil}
	}
}

// deniedAction matches the missing permission in a message. It may differ from that of the
// request, and no field of the response has it.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
var deniedAction = text.Regexp(`not authorized to perform: ([a-z0-9-]+:[A-Za-z0-9]+)`)

// denyingPolicy matches the type of policy at the end of a message. No field of the response
// has it.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
var denyingPolicy = text.Regexp(`(?:because|with) (?:an |a |the )?((?:no|explicit) .*)`)

// accessDenied returns the error for a missing permission.
func accessDenied(action, message string) error {
	message = firstLine(message)
	if m := deniedAction().FindStringSubmatch(message); m != nil {
		action = m[1]
	} else if strings.Contains(message, "KMS") {
		// The message of Secrets Manager is only "Access to KMS is not allowed", with the
		// same code.
		// https://repost.aws/knowledge-center/secrets-manager-cross-account-key
		action = "kms:Decrypt"
	}
	text := action + " is not allowed"
	if m := denyingPolicy().FindStringSubmatch(message); m != nil {
		text += ": " + m[1]
	}
	return &apiError{text, ErrNotPermitted}
}

// isNotFound reports whether the response has the error code of a service for a resource that
// does not exist.
func isNotFound(err error) bool {
	var answer smithy.APIError
	return errors.As(err, &answer) &&
		(strings.Contains(answer.ErrorCode(), "NotFound") || strings.HasPrefix(answer.ErrorCode(), "NoSuchEntity"))
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
	if parsed, parseErr := url.Parse(request.URL); parseErr == nil && !strings.Contains(cause, parsed.Hostname()) {
		return parsed.Host + ": " + cause
	}
	return cause
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
