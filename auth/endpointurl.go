package auth

import (
	"context"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// endpoints holds the endpoint URLs of the AWS configuration. The zero value has none.
//
// The SDK resolves AWS_ENDPOINT_URL and endpoint_url after it has made the clients
// that request credentials. endpoints applies them to these clients.
type endpoints struct{ cfg aws.Config }

// endpointURL is a configured URL and the setting that has it.
type endpointURL struct{ url, setting string }

// EndpointURL returns the endpoint URL that the AWS configuration has for a service, or "".
// The service has the SDK's name, such as "Secrets Manager".
func EndpointURL(cfg aws.Config, service string) string { return (&endpoints{cfg}).of(service).url }

// of returns the endpoint URL of a service. The URL is empty if none is configured.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
func (e *endpoints) of(service string) endpointURL {
	if ignored, found, err := config.GetIgnoreConfiguredEndpoints(context.Background(), e.cfg.ConfigSources); found && ignored && err == nil {
		return endpointURL{}
	}
	for _, name := range []string{"AWS_ENDPOINT_URL_" + strings.ToUpper(strings.ReplaceAll(service, " ", "_")), "AWS_ENDPOINT_URL"} {
		if value := os.Getenv(name); value != "" {
			return endpointURL{value, name}
		}
	}
	for _, source := range e.cfg.ConfigSources {
		// config.SharedConfig has it for the services section of the profile.
		source, ok := source.(interface {
			GetServiceBaseEndpoint(ctx context.Context, sdkID string) (string, bool, error)
		})
		if !ok {
			continue
		}
		if value, found, err := source.GetServiceBaseEndpoint(context.Background(), service); found && err == nil {
			return endpointURL{value, "endpoint_url"}
		}
	}
	if e.cfg.BaseEndpoint != nil {
		return endpointURL{*e.cfg.BaseEndpoint, "endpoint_url"}
	}
	return endpointURL{}
}

// apply adds a step to the clients that are made from a configuration. The step
// follows the SDK's resolution of the endpoint and precedes the signature.
func (e *endpoints) apply(stack *middleware.Stack) error {
	const resolved = "ResolveEndpointV2"
	if _, ok := stack.Finalize.Get(resolved); !ok {
		return nil // the client of the instance metadata service
	}
	return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("ConfiguredEndpoint", e.redirect), resolved, middleware.After)
}

// redirect sends a request to the configured endpoint, unless the SDK does.
func (e *endpoints) redirect(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
	service := awsmiddleware.GetServiceID(ctx)
	request, ok := in.Request.(*smithyhttp.Request)
	if ok && slices.Contains(awsServices, service) {
		if base, err := url.Parse(e.of(service).url); err == nil && base.Host != "" && (base.Host != request.URL.Host || base.Scheme != request.URL.Scheme) {
			request.URL.Scheme, request.URL.Host = base.Scheme, base.Host
			request.URL.Path, request.URL.RawPath = smithyhttp.JoinPath(base.Path, request.URL.Path), ""
		}
	}
	return next.HandleFinalize(ctx, in)
}
