package rdsapi

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
)

// failure is an error as it is told. The SDK's is not in it: that has the request's ID, and may
// quote what was signed, with the session token.
type failure struct {
	text string
	kind error // one of Err...; nil: none of them
}

func (f *failure) Error() string { return f.text }

func (f *failure) Unwrap() error { return f.kind }

// services are their names, by the first word of their actions.
var services = map[string]string{"rds": "RDS", "iam": "IAM", "secretsmanager": "Secrets Manager"}

// explain is the error of action, such as "rds:DescribeDBClusters", as it is told.
func explain(action string, err error) error {
	prefix, _, _ := strings.Cut(action, ":")
	service := services[prefix]
	var answer smithy.APIError
	var response *smithyhttp.ResponseError
	var unsent *smithyhttp.RequestSendError
	switch {
	case errors.Is(err, context.Canceled):
		return &failure{fmt.Sprintf("%s was not waited for", action), context.Canceled}
	case errors.As(err, &answer):
		return refusal(service, action, answer, status(err))
	case errors.Is(err, context.DeadlineExceeded):
		return &failure{fmt.Sprintf("%s's API does not answer from here in time", service), ErrUnreachable}
	case errors.As(err, &unsent):
		return &failure{fmt.Sprintf("%s's API does not answer from here: %s", service, reason(unsent)), ErrUnreachable}
	case errors.As(err, &response):
		return &failure{fmt.Sprintf("what answers for %s's API from here is not AWS: status %d, in a form that is not its own",
			service, response.HTTPStatusCode()), ErrUnreachable}
	default:
		return &failure{fmt.Sprintf("%s: %s", action, innermost(err)), nil}
	}
}

// refusal is what a service answered instead of what was asked for. The codes are under
// "Common errors" in the API references of the services.
// https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html
func refusal(service, action string, answer smithy.APIError, status int) error {
	// Some services have the second form.
	switch code := strings.TrimSuffix(firstLine(answer.ErrorCode()), "Exception"); code {
	case "AccessDenied", "UnauthorizedOperation", "NotAuthorized":
		return denied(action, answer.ErrorMessage())
	case "ExpiredToken", "RequestExpired":
		return &failure{"AWS does not take the credentials: they have expired", ErrCredentials}
	case "InvalidClientTokenId", "UnrecognizedClient":
		return &failure{"AWS does not take the credentials: the access key or its session token is not known, " +
			"or the region is not enabled in the account", ErrCredentials}
	case "SignatureDoesNotMatch", "InvalidSignature", "IncompleteSignature", "MissingAuthenticationToken":
		return &failure{"AWS does not take the credentials: the signature is not right; " +
			"the secret access key is another, or this machine's clock is off", ErrCredentials}
	case "Throttling", "RequestLimitExceeded", "TooManyRequests":
		return &failure{fmt.Sprintf("%s's API is asked too much of now (%s); try again", service, code), ErrUnreachable}
	default:
		if status >= http.StatusInternalServerError {
			return &failure{fmt.Sprintf("%s's API does not work now (status %d, %s); try again", service, status, code), ErrUnreachable}
		}
		return &failure{fmt.Sprintf("%s: %s: %s", action, code, firstLine(answer.ErrorMessage())), nil}
	}
}

// deniedAction is in most messages: what was asked may need more than what it is called.
var deniedAction = regexp.MustCompile(`not authorized to perform: ([a-z0-9-]+:[A-Za-z0-9]+)`)

// because is what most messages end with.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
var because = regexp.MustCompile(`(?:because|with) (?:an |a |the )?((?:no|explicit) .*)`)

func denied(action, message string) error {
	message = firstLine(message)
	if m := deniedAction.FindStringSubmatch(message); m != nil {
		action = m[1]
	} else if strings.Contains(message, "KMS") {
		action = "kms:Decrypt" // "Access to KMS is not allowed" is all that Secrets Manager says
	}
	text := action + " is not allowed"
	if m := because.FindStringSubmatch(message); m != nil {
		text += ": " + m[1]
	}
	return &failure{text, ErrNotPermitted}
}

// isNotFound reports whether it is an answer that says so, in any service's words.
func isNotFound(err error) bool {
	var answer smithy.APIError
	return errors.As(err, &answer) &&
		(strings.Contains(answer.ErrorCode(), "NotFound") || strings.HasPrefix(answer.ErrorCode(), "NoSuchEntity"))
}

// status is that of the HTTP answer that an error comes from; 0 if from none.
func status(err error) int {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}

// reason is why a request could not be sent, without its URL but with the host.
func reason(err error) string {
	var request *url.Error
	if !errors.As(err, &request) {
		return innermost(err)
	}
	text := firstLine(request.Err.Error())
	if parsed, parseErr := url.Parse(request.URL); parseErr == nil && !strings.Contains(text, parsed.Hostname()) {
		return parsed.Host + ": " + text
	}
	return text
}

// innermost is the text of the error that others are around.
func innermost(err error) string {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return firstLine(err.Error())
}

// firstLine is the first line of a text.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return cmp.Or(strings.TrimSpace(line), "no reason given")
}
