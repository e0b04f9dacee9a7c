package auth

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/iamproxy/iamproxy/internal/text"
)

// serviceNames maps the SDK's names of services to those that users know.
var serviceNames = map[string]string{
	"STS":      "AWS STS",
	"SSO":      "the AWS access portal (SSO)",
	"SSO OIDC": "IAM Identity Center",
	"Signin":   "AWS Sign-In",
	"ec2imds":  "EC2 metadata",
}

// foreignAdvice is the hint about an answer that is not AWS's.
const foreignAdvice = "Check which system answers in place of AWS: an HTTP proxy (HTTPS_PROXY), a configured endpoint URL (AWS_ENDPOINT_URL), or TLS inspection."

// unavailableAdvice returns the hint about a source that is likely to recover.
func unavailableAdvice(err error) string {
	switch {
	case status(err) != 0 || isThrottled(err):
		return "The service is likely to recover. iamproxy requests the credentials again for each login."
	case hasOperation(err, "ec2imds", ""):
		return "In a container on EC2, check that the hop limit of instance metadata is at least 2. If there is an HTTP proxy, NO_PROXY needs 169.254.169.254."
	case isContainerError(err):
		return "Check that this host can reach it. If there is an HTTP proxy, NO_PROXY needs 169.254.170.2, 169.254.170.23 and 169.254.169.254."
	default:
		variable := "HTTPS_PROXY"
		if requestURL(err).Scheme == "http" {
			variable = "HTTP_PROXY"
		}
		return "Check that this host can reach it: DNS, routes, VPC endpoints, and an HTTP proxy if there is one (" + variable + ")."
	}
}

// describe returns a short description of an error of the SDK, in place of the chain of its
// layers. It does not contain what a source of credentials printed: the SDK quotes such
// output if it cannot parse it, and it may contain a key.
func describe(err error) string {
	service := "the source of the credentials"
	if last := lastOperation(err); last != nil {
		service = serviceNames[last.ServiceID]
		if service == "" {
			service = last.ServiceID
		}
	}
	if isContainerError(err) {
		service = string(SourceContainerEndpoint)
	}
	var response smithy.APIError
	var unreachable *smithyhttp.RequestSendError
	hasCode := errorCode(err) != "" && errors.As(err, &response)
	switch {
	case hasCode && response.ErrorMessage() == "":
		return service + " answered: " + response.ErrorCode()
	case hasCode:
		return service + " answered: " + strings.TrimSpace(response.ErrorMessage()) + " (" + response.ErrorCode() + ")"
	case status(err) != 0:
		return service + " answered with the HTTP status " + strconv.Itoa(status(err)) + "; its text is not shown"
	case errors.As(err, &unreachable):
		return "could not reach " + service + host(unreachable) + ": " + networkCause(unreachable)
	case errors.Is(err, context.DeadlineExceeded):
		return service + " has not answered in time"
	case isContainerError(err) && isUnreadable(err):
		return service + " answered without credentials; its text is not shown"
	}
	return redact(err)
}

// host returns " at " and the host of a request that was not sent, or "".
func host(err error) string {
	if host := requestURL(err).Host; host != "" {
		return " at " + host
	}
	return ""
}

// networkCause returns the cause of a request that was not sent, without the
// descriptions of the layers above it.
func networkCause(err error) string {
	return cmp.Or(text.NetworkCause(err), innermost(err).Error())
}

// describeProcess returns why a credential_process failed.
func describeProcess(err error) string {
	switch {
	case strings.Contains(err.Error(), "credential process timed out"): // credentials/processcreds/provider.go
		return "it has not answered for " + seconds(processTimeout) + ", and was ended"
	case strings.Contains(err.Error(), "process output: "): // credentials/processcreds/provider.go
		return "its output, which is not shown, is not the JSON document of AWS's specification"
	}
	return innermost(err).Error()
}

// metadataListens reports whether the instance metadata service accepts connections. Where
// nothing answers, the SDK's error is the same for a host without the service.
func metadataListens() bool {
	address := "169.254.169.254:80"
	if strings.EqualFold(os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"), "ipv6") {
		address = "[fd00:ec2::254]:80"
	}
	if parsed, err := url.Parse(os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT")); err == nil && parsed.Host != "" {
		address = net.JoinHostPort(parsed.Hostname(), cmp.Or(parsed.Port(), "80"))
	}
	conn, err := net.DialTimeout("tcp", address, 300*time.Millisecond) //nolint:gosec // named by the user's environment
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// seconds formats a duration.
func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " s"
}

// innermost returns the error at the end of err's chain.
func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// redact returns the text of err without what a source of credentials printed.
func redact(err error) string {
	text := err.Error()
	// The SDK has no type for it: credentials/processcreds/provider.go.
	if before, _, found := strings.Cut(text, "process output: "); found {
		return before + "process output, which is not shown"
	}
	var response smithy.APIError
	if errors.As(err, &response) && response.ErrorCode() == "" && response.ErrorMessage() != "" {
		text = strings.ReplaceAll(text, response.ErrorMessage(), "an answer that is not shown")
	}
	return strings.TrimPrefix(text, "failed to refresh cached credentials, ")
}
