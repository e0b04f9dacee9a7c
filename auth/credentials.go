package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
)

// Credentials are those of the SDK's own chain (environment, profile, web
// identity, container, instance), or of the named profile. Nothing is asked of
// AWS before they are first used. The region is where STS is asked when neither
// the environment nor the profile names one.
//
// The error tells of a configuration that cannot be read or a profile that is
// not in it.
func Credentials(ctx context.Context, profile, region string) (aws.CredentialsProvider, error) {
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithSharedConfigProfile(profile),
		config.WithDefaultRegion(region))
	if err != nil {
		return nil, err
	}
	return &provider{profile: profile, chain: cfg.Credentials}, nil
}

// provider adds to the chain's errors what a person can do about them.
type provider struct {
	profile string
	chain   aws.CredentialsProvider
}

func (p *provider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	creds, err := p.chain.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, &Error{
			Message: "no AWS credentials",
			Hint:    p.hint(err),
			Err:     err,
		}
	}
	return creds, nil
}

// Invalidate makes the next Retrieve ask the source again.
func (p *provider) Invalidate() {
	if cache, ok := p.chain.(interface{ Invalidate() }); ok {
		cache.Invalidate()
	}
}

func (p *provider) hint(err error) string {
	var expired *ssocreds.InvalidTokenError
	if errors.As(err, &expired) || strings.Contains(err.Error(), "SSO") {
		login := "aws sso login"
		if p.profile != "" {
			login += " --profile " + p.profile
		}
		return fmt.Sprintf("run `%s`, then connect again; iamproxy need not be restarted", login)
	}
	return "give iamproxy a task role, a pod identity, a profile (--profile) or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `aws sts get-caller-identity` shows what is found"
}

// Error is a failure to get a token.
type Error struct {
	Message string
	Hint    string // what to do about it; may be empty
	Err     error  // the cause; may be nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Advice is what a person can do about the failure, in one line.
func (e *Error) Advice() string { return e.Hint }
