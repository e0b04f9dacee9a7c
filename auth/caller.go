package auth

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// callerTimeout limits the request to STS, which many networks block.
const callerTimeout = 3 * time.Second

// Caller identifies the owner of the credentials.
type Caller struct {
	ARN     string // of the user or the assumed role's session
	Account string // 12 digits; may be known without the ARN
}

// errNotLoaded is returned if the credentials do not come from Load.
var errNotLoaded = errors.New("no AWS configuration is loaded")

// Caller returns the owner of the credentials. It requests it from STS, which
// needs no permission, and caches the response. With an error, the result has what
// is known without STS.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
func (i *Identity) Caller(ctx context.Context) (Caller, error) {
	creds, _, err := i.snapshot(ctx)
	if err != nil {
		return Caller{}, err
	}
	verdict := i.requestVerdict(ctx, creds, forever)
	return verdict.caller, verdict.err
}

func (i *Identity) requestCaller(ctx context.Context, creds aws.Credentials) (Caller, error) {
	caller := Caller{Account: creds.AccountID}
	source, ok := i.loaded().(*chain)
	if !ok {
		return caller, errNotLoaded
	}
	client := sts.NewFromConfig(source.cfg, func(o *sts.Options) {
		o.Credentials = credentials.StaticCredentialsProvider{Value: creds}
	})
	answer, err := client.GetCallerIdentity(ctx, nil)
	if err != nil {
		return caller, err
	}
	caller.ARN = aws.ToString(answer.Arn)
	if parsed, err := arn.Parse(caller.ARN); err == nil {
		caller.Account = parsed.AccountID
	}
	return caller, nil
}

// Config returns a configuration for requests to other AWS services in region with
// the current credentials. The error is an *Error if there are none.
func (i *Identity) Config(ctx context.Context, region string) (aws.Config, error) {
	creds, _, err := i.snapshot(ctx)
	if err != nil {
		return aws.Config{}, err
	}
	source, ok := i.loaded().(*chain)
	if !ok {
		return aws.Config{}, errNotLoaded
	}
	cfg := source.cfg.Copy()
	cfg.Region = region
	cfg.Credentials = credentials.StaticCredentialsProvider{Value: creds}
	return cfg, nil
}

// ConfigIn returns Config for one region.
func (i *Identity) ConfigIn(region string) func(ctx context.Context) (aws.Config, error) {
	return func(ctx context.Context) (aws.Config, error) { return i.Config(ctx, region) }
}

// EndpointURL returns the URL that is configured for a service, by its name in the SDK, or "".
// Load must have been called.
func (i *Identity) EndpointURL(service string) string {
	source, ok := i.loaded().(*chain)
	if !ok {
		return ""
	}
	return EndpointURL(source.cfg, service)
}
