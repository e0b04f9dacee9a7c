package auth

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
)

// Credentials are those of the SDK's own chain (environment, profile, web
// identity, container, instance), or of the named profile. The region is where
// STS is asked when neither the environment nor the profile names one.
//
// The error tells of a configuration that cannot be read or a profile that is
// not in it. A source that gives no credentials is an *Error of Retrieve.
func Credentials(ctx context.Context, profile, region string) (aws.CredentialsProvider, error) {
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithSharedConfigProfile(profile),
		config.WithDefaultRegion(region))
	if err != nil {
		return nil, err
	}
	if profile == "" {
		profile = os.Getenv("AWS_PROFILE")
	}
	return &provider{profile: profile, chain: cfg.Credentials}, nil
}

// provider adds to the chain's errors what a person can do about them, and
// takes from them what nobody may read.
type provider struct {
	profile string // may be empty
	chain   aws.CredentialsProvider
}

func (p *provider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	creds, err := p.chain.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, &Error{
			Message: "no AWS credentials: " + reason(err),
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

// reason is the text of an error of the chain without what a source of
// credentials printed, which the SDK quotes where it cannot read it: there may
// well be a key in it.
func reason(err error) string {
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

func (p *provider) hint(err error) string {
	var expired *ssocreds.InvalidTokenError
	login := ""
	switch {
	case errors.As(err, &expired) || strings.Contains(err.Error(), "SSO"):
		login = "aws sso login"
	case strings.Contains(err.Error(), "please reauthenticate"):
		login = "aws login"
	default:
		return "give iamproxy a task role, a pod identity, a profile (--profile) or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `aws sts get-caller-identity` shows what is found"
	}
	if p.profile != "" {
		login += " --profile " + p.profile
	}
	return "run `" + login + "`, then connect again; iamproxy need not be restarted"
}

// Error is a failure to get a token.
type Error struct {
	Message string // what failed and why, fit to be shown
	Hint    string // what to do about it; may be empty
	Err     error  // the cause, which may hold what is not to be shown; may be nil
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

// Advice is what a person can do about the failure, in one line.
func (e *Error) Advice() string { return e.Hint }
