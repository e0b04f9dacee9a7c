package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/iamproxy/iamproxy/internal/text"
)

// configuredError returns the error of a source that fails because of a setting, or
// nil. It names the setting, which the SDK does not.
func (i *Identity) configuredError(err error) *Error {
	for _, explain := range []func(error) *Error{i.tokenFileError, i.Unreachable, i.fileError} {
		if found := explain(err); found != nil {
			return found
		}
	}
	return nil
}

// tokenFileError returns the error of a file that must contain a token for a request
// for credentials, or nil.
func (i *Identity) tokenFileError(err error) *Error {
	// The SDK has no types for these: config/resolve_credentials.go,
	// credentials/endpointcreds/provider.go, credentials/stscreds/web_identity_provider.go.
	setting, path := "", ""
	switch text := err.Error(); {
	case strings.Contains(text, "resolve auth token"):
		setting, path = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
	case strings.Contains(text, "unable to read file at"), hasOperation(err, sts.ServiceID, "AssumeRoleWithWebIdentity"):
		setting, path = i.webIdentityFile()
	}
	if path == "" {
		return nil
	}
	problem, advice := "", "Check that the platform mounts this file, and that the user that runs iamproxy may read it."
	switch content, err := os.ReadFile(path); { //nolint:gosec // named by the user's environment
	case err != nil && strings.HasPrefix(path, "~"):
		problem, advice = "~ does not stand for the home directory in this setting", "Write the path in full."
	case err != nil:
		problem = "could not read " + fileName(setting, path) + ": " + text.WithoutPath(err).Error()
	case strings.TrimSpace(string(content)) == "":
		problem = fileName(setting, path) + " is empty"
	case setting == "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" && !isOneLine(string(content)):
		problem, advice = fileName(setting, path)+" contains a line break", "Write the token without a line break, also at its end."
	default:
		return nil
	}
	return newError(ReasonTokenFileUnusable, err, "{setting}", setting, "{problem}", problem, "{advice}", advice)
}

// Unreachable returns the error of a request to AWS that was not sent because of a
// configured endpoint, an HTTP proxy or a certificate, or nil.
func (i *Identity) Unreachable(err error) *Error {
	var unsent *smithyhttp.RequestSendError
	if !errors.As(err, &unsent) {
		return nil
	}
	target := requestURL(unsent)
	cause, host := networkCause(unsent), strconv.Quote(target.Host)
	if isUntrusted(unsent) {
		return newError(ReasonAWSCertificateUntrusted, err, "{target}", host, "{cause}", cause)
	}
	// net/http decides by its copy of the variables.
	if proxy, failed := http.ProxyFromEnvironment(&http.Request{URL: target}); proxy != nil && failed == nil {
		setting, _ := firstSet("HTTPS_PROXY", "https_proxy")
		if target.Scheme == "http" {
			setting, _ = firstSet("HTTP_PROXY", "http_proxy")
		}
		return newError(ReasonHTTPProxyFailed, err, "{target}", host, "{host}", strconv.Quote(proxy.Host), "{setting}", setting, "{cause}", cause)
	}
	configured := i.endpointOf(err)
	if parsed, failed := url.Parse(configured.url); failed == nil && parsed.Host != "" && parsed.Host == target.Host {
		return newError(ReasonEndpointUnreachable, err, "{host}", host, "{setting}", configured.setting, "{cause}", cause, "{advice}", endpointAdvice(target.Hostname()))
	}
	return nil
}

// endpointAdvice returns the hint about the host of a configured endpoint that cannot be reached.
func endpointAdvice(host string) string {
	switch host {
	case "169.254.170.23", "fd00:ec2::23": // https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html
		return "This is the agent of EKS Pod Identity. Install the add-on eks-pod-identity-agent, and check that its pod runs on this node. Fargate does not support it: use IRSA there."
	default:
		return "Check that this is the right address, and that this host can reach it."
	}
}

// requestURL returns the URL of a request that was not sent, which may be empty.
func requestURL(err error) *url.URL {
	var request *url.Error
	if errors.As(err, &request) {
		if parsed, err := url.Parse(request.URL); err == nil {
			return parsed
		}
	}
	return new(url.URL)
}

// isUntrusted reports whether the server's certificate was the cause.
func isUntrusted(err error) bool {
	return errors.As(err, new(*tls.CertificateVerificationError))
}

// endpointOf returns the configured endpoint of the operation that failed. The URL
// is empty if none is configured.
func (i *Identity) endpointOf(err error) endpointURL {
	service := ""
	if last := lastOperation(err); last != nil {
		service = last.ServiceID
	}
	switch c, _ := i.loaded().(*chain); {
	case service == "ec2imds":
		const name = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
		return endpointURL{os.Getenv(name), name}
	case service == "endpoint-credentials", service == "":
		const name = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
		return endpointURL{os.Getenv(name), name}
	case c != nil:
		return (&endpoints{c.cfg}).of(service)
	default:
		return endpointURL{}
	}
}

// unloaded is the source while the configuration cannot be loaded for a temporary
// cause. It loads the configuration in each fetch until that succeeds.
type unloaded struct{ identity *Identity }

func (u unloaded) fetch(ctx context.Context) (aws.Credentials, error) {
	loaded, err := u.identity.load(ctx)
	if err != nil {
		return aws.Credentials{}, err
	}
	u.identity.mu.Lock()
	u.identity.source = loaded
	u.identity.mu.Unlock()
	return loaded.fetch(ctx)
}

// containerError returns the error of AWS_CONTAINER_CREDENTIALS_FULL_URI for an
// error of the SDK, or nil. The SDK has no types for them:
// config/resolve_credentials.go.
func containerError(err error) *Error {
	const name = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
	switch text := err.Error(); {
	case strings.Contains(text, "failed to resolve host"):
		parsed, _ := url.Parse(os.Getenv(name)) // checkSettings has parsed it
		failed := newError(ReasonContainerHostUnknown, err, "{host}", strconv.Quote(parsed.Hostname()))
		failed.temporary = true
		return failed
	case strings.Contains(text, "only loopback/ecs/eks hosts are allowed"):
		return settingError(name, "", "", "an https URL, or an http URL of this host or of 169.254.170.2, 169.254.170.23 or [fd00:ec2::23]")
	}
	return nil
}
