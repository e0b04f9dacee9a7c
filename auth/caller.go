package auth

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

const (
	// callerTimeout bounds the question who somebody is, which many networks do
	// not let through.
	callerTimeout = 3 * time.Second
	// callerRetry is how long it is not asked again after it failed.
	callerRetry = time.Minute
)

// Caller is who the credentials belong to.
type Caller struct {
	ARN     string // of the user or of the role's session
	Account string // 12 digits; may be known where the ARN is not
}

// callers remembers the caller of the credentials that were asked about last.
type callerCache struct {
	mu        sync.Mutex // held while AWS is asked: the others want to know the same
	keyID     string
	caller    Caller
	err       error
	checkedAt time.Time
}

// known is what the last answer said.
type lastCaller struct {
	keyID  string
	caller Caller
}

// Caller asks STS whose the credentials are; anybody may ask that about
// themselves. What it knows without that comes with the error.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
func (i *Identity) Caller(ctx context.Context) (Caller, error) {
	creds, _, err := i.snapshot(ctx)
	if err != nil {
		return Caller{}, err
	}
	c := &i.callerCache
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keyID == creds.AccessKeyID && (c.err == nil || wallClock().Sub(c.checkedAt).Abs() < callerRetry) {
		return c.caller, c.err
	}
	ctx, cancel := context.WithTimeout(ctx, callerTimeout)
	defer cancel()
	c.caller, c.err = i.requestCaller(ctx, creds)
	c.keyID, c.checkedAt = creds.AccessKeyID, wallClock()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lastCaller = lastCaller{c.keyID, c.caller}
	return c.caller, c.err
}

func (i *Identity) requestCaller(ctx context.Context, creds aws.Credentials) (Caller, error) {
	caller := Caller{Account: creds.AccountID}
	source, ok := i.loaded().(*chain)
	if !ok {
		return caller, errors.New("there is no configuration to ask with")
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

// Config is for asking other services of AWS as whoever signs, in region. The error is
// an *Error where there are no credentials.
func (i *Identity) Config(ctx context.Context, region string) (aws.Config, error) {
	creds, _, err := i.snapshot(ctx)
	if err != nil {
		return aws.Config{}, err
	}
	source, ok := i.loaded().(*chain)
	if !ok {
		return aws.Config{}, errors.New("there is no configuration to ask with")
	}
	cfg := source.cfg.Copy()
	cfg.Region = region
	cfg.Credentials = credentials.StaticCredentialsProvider{Value: creds}
	return cfg, nil
}
