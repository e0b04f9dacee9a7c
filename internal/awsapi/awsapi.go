// Package awsapi sends requests to RDS, IAM, Secrets Manager and Systems Manager. The SDK's
// clients for these services build tables of all their actions when a process starts, and
// iamproxy needs few actions. The settings, the signature, the retries and the correction of the
// clock skew are the SDK's.
package awsapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Service identifies a service and its API.
type Service struct {
	id       string // the SDK's name of the service
	name     string // the name in hosts and signatures
	api      string // the version for the Query protocol, the prefix of actions for JSON
	protocol protocol
}

// The services.
var (
	RDS            = Service{"RDS", "rds", "2014-10-31", query}
	IAM            = Service{"IAM", "iam", "2010-05-08", query}
	SecretsManager = Service{"Secrets Manager", "secretsmanager", "secretsmanager", json11}
	SSM            = Service{"SSM", "ssm", "AmazonSSM", json11}
)

// maxBody limits the bytes of a response that are read.
const maxBody = 8 << 20

// Client sends requests to a service. It is safe for concurrent use.
type Client struct {
	service Service
	config  aws.Config
	// options has the settings for all services as the SDK resolves them.
	options sts.Options
	// skew is how far the last response was ahead of this machine's clock, in
	// nanoseconds.
	skew atomic.Int64
}

// New returns a client for a service in the region of config. The configuration must have
// credentials.
func New(config aws.Config, service Service) *Client {
	return &Client{service: service, config: config, options: sts.NewFromConfig(config).Options()}
}

// Call sends a request for an action, and decodes the response into result: XML for RDS and
// IAM, JSON for Secrets Manager and SSM. The parameters are a map[string]string for XML, and
// any value for JSON; nil for none. The errors are of the SDK's types: a
// *smithyhttp.RequestSendError if there is no response, and else a
// *smithyhttp.ResponseError. It wraps a smithy.APIError if the service returns an error.
func (c *Client) Call(ctx context.Context, action string, parameters, result any) error {
	ctx = middleware.ClearStackValues(ctx)
	ctx = awsmiddleware.SetServiceID(ctx, c.service.id)
	ctx = awsmiddleware.SetOperationName(ctx, action)
	ctx = awsmiddleware.SetRegion(ctx, c.options.Region)
	ctx = middleware.SetLogger(ctx, c.options.Logger)
	call := &call{Client: c, action: action, parameters: parameters, result: result, skew: time.Duration(c.skew.Load())}
	stack := middleware.NewStack(action, smithyhttp.NewStackRequest)
	err := call.addSteps(stack)
	for _, option := range c.options.APIOptions {
		err = errors.Join(err, option(stack))
	}
	if err != nil {
		return err
	}
	handler := middleware.DecorateHandler(smithyhttp.NewClientHandlerWithOptions(c.options.HTTPClient), stack)
	_, _, err = handler.Handle(ctx, nil)
	return err
}

// call is one call of an action, with all its attempts.
type call struct {
	*Client
	action     string
	parameters any
	result     any

	body          []byte
	signingRegion string
	skew          time.Duration
}

// addSteps adds the steps of a call in their order, with the names that they have in the
// SDK's clients. Options of the configuration insert steps between them.
func (c *call) addSteps(stack *middleware.Stack) error {
	userAgent := awsmiddleware.NewRequestUserAgent()
	if c.options.AppID != "" {
		userAgent.AddSDKAgentKey(awsmiddleware.ApplicationIdentifier, c.options.AppID)
	}
	attempt := retry.NewAttemptMiddleware(c.options.Retryer, smithyhttp.RequestCloner, func(a *retry.Attempt) {
		a.ClientSkew = &c.Client.skew
		a.DisableClockSkewCorrection = c.options.DisableClockSkewCorrection
	})
	return errors.Join(
		stack.Serialize.Add(middleware.SerializeMiddlewareFunc("OperationSerializer", c.serialize), middleware.After),
		stack.Build.Add(&awsmiddleware.ClientRequestID{}, middleware.After),
		stack.Build.Add(userAgent, middleware.After),
		stack.Finalize.Add(attempt, middleware.After),
		stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("ResolveEndpointV2", c.resolve), middleware.After),
		stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("Signing", c.sign), middleware.After),
		stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("OperationDeserializer", c.deserialize), middleware.After),
		stack.Deserialize.Add(&awsmiddleware.RecordResponseTiming{
			DisableClockSkewCorrection: c.options.DisableClockSkewCorrection,
		}, middleware.After),
	)
}

func (c *call) serialize(ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler) (
	out middleware.SerializeOutput, metadata middleware.Metadata, err error,
) {
	request := in.Request.(*smithyhttp.Request)
	request.Method = http.MethodPost
	if c.body, err = c.service.protocol.encode(c.service, c.action, c.parameters, request.Header); err != nil {
		return out, metadata, err
	}
	if in.Request, err = request.SetStream(bytes.NewReader(c.body)); err != nil {
		return out, metadata, err
	}
	return next.HandleSerialize(ctx, in)
}

func (c *call) resolve(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
	out middleware.FinalizeOutput, metadata middleware.Metadata, err error,
) {
	endpoint, signingRegion, err := c.endpoint()
	if err != nil {
		return out, metadata, err
	}
	in.Request.(*smithyhttp.Request).URL, c.signingRegion = endpoint, signingRegion
	return next.HandleFinalize(ctx, in)
}

// sign signs one attempt. The next attempt is signed with the clock skew that the response
// to this one shows.
func (c *call) sign(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
	out middleware.FinalizeOutput, metadata middleware.Metadata, err error,
) {
	credentials, err := c.options.Credentials.Retrieve(ctx)
	if err != nil {
		return out, metadata, err
	}
	hash := sha256.Sum256(c.body)
	err = v4.NewSigner().SignHTTP(ctx, credentials, in.Request.(*smithyhttp.Request).Request,
		hex.EncodeToString(hash[:]), c.service.name, c.signingRegion, time.Now().Add(c.skew))
	if err != nil {
		return out, metadata, err
	}
	out, metadata, err = next.HandleFinalize(ctx, in)
	if skew, known := awsmiddleware.GetAttemptSkew(metadata); known {
		c.skew = skew
	}
	return out, metadata, err
}

func (c *call) deserialize(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
	middleware.DeserializeOutput, middleware.Metadata, error,
) {
	out, metadata, err := next.HandleDeserialize(ctx, in)
	if err != nil {
		return out, metadata, err
	}
	response := out.RawResponse.(*smithyhttp.Response)
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	switch {
	case err != nil:
	case response.StatusCode/100 == 2:
		err = c.service.protocol.decode(body, c.result)
	default:
		err = c.service.protocol.decodeError(response.Header, body)
	}
	if err != nil {
		err = &smithyhttp.ResponseError{Response: response, Err: err}
	}
	return out, metadata, err
}
