package ssm

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"

	"github.com/iamproxy/iamproxy/internal/awsapi"
)

// Client is the API of Systems Manager. The credentials need these permissions:
//
//	StartSession      ssm:StartSession, for a tag also ssm:DescribeInstanceInformation
//	ResumeSession     ssm:ResumeSession
//	TerminateSession  ssm:TerminateSession
type Client struct {
	// Config returns the region and the credentials. It is required.
	Config func(ctx context.Context) (aws.Config, error)
	// Rejected is called when AWS rejects the credentials. It may be nil.
	Rejected func()
}

// requestTimeout limits each request, with its one retry.
const requestTimeout = 10 * time.Second

// StartSession starts a session on the target. It looks up a tag each time, so that it finds the
// instance that has replaced another one.
// https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_StartSession.html
func (c *Client) StartSession(ctx context.Context, in StartInput) (Session, error) {
	node := in.Target.ID
	if in.Target.Kind == Tag {
		nodes, err := c.tagged(ctx, in.Target)
		if err != nil {
			return Session{}, err
		}
		if node, err = choose(in.Target, nodes); err != nil {
			return Session{}, err
		}
	}
	s, err := c.session(ctx, "StartSession", map[string]any{"Target": node, "DocumentName": in.Document, "Parameters": in.Parameters})
	s.Target = node
	return s, err
}

// ResumeSession returns a new token for the session.
// https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_ResumeSession.html
func (c *Client) ResumeSession(ctx context.Context, id string) (Session, error) {
	s, err := c.session(ctx, "ResumeSession", map[string]string{"SessionId": id})
	if hasEnded(err) {
		return Session{ID: id}, nil
	}
	return s, err
}

// TerminateSession ends the session.
// https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_TerminateSession.html
func (c *Client) TerminateSession(ctx context.Context, id string) error {
	_, err := c.session(ctx, "TerminateSession", map[string]string{"SessionId": id})
	if hasEnded(err) {
		return nil
	}
	return err
}

// hasEnded reports whether err is that of a session that does not exist any more.
func hasEnded(err error) bool {
	var answer smithy.APIError
	return errors.As(err, &answer) && answer.ErrorCode() == "DoesNotExistException"
}

// session sends a request whose response is a session.
func (c *Client) session(ctx context.Context, action string, parameters any) (Session, error) {
	var out struct{ SessionID, StreamURL, TokenValue string }
	if err := c.call(ctx, action, parameters, &out); err != nil {
		return Session{}, err
	}
	return Session{ID: out.SessionID, StreamURL: out.StreamURL, Token: out.TokenValue}, nil
}

// node is a managed node.
type node struct {
	InstanceID   string
	ComputerName string // as the agent reports it; may be empty
	PingStatus   string
}

// maxPages limits the requests for the nodes of one tag. Each returns up to 50.
const maxPages = 20

// tagged returns the managed nodes that have the tag.
// https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_DescribeInstanceInformation.html
func (c *Client) tagged(ctx context.Context, target Target) (nodes []node, err error) {
	type filter struct {
		Key    string
		Values []string
	}
	in := struct {
		Filters    []filter
		MaxResults int
		NextToken  string `json:",omitempty"`
	}{Filters: []filter{{"tag:" + target.Key, []string{target.Value}}}, MaxResults: 50}
	for range maxPages {
		var out struct {
			InstanceInformationList []node
			NextToken               string
		}
		if err := c.call(ctx, "DescribeInstanceInformation", in, &out); err != nil {
			return nil, err
		}
		nodes = append(nodes, out.InstanceInformationList...)
		if in.NextToken = out.NextToken; in.NextToken == "" {
			break
		}
	}
	return nodes, nil
}

func (c *Client) call(ctx context.Context, action string, parameters, result any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	config, err := c.Config(ctx)
	if err != nil {
		return err
	}
	config = config.Copy()
	config.RetryMaxAttempts = 0 // it would override MaxAttempts
	config.Retryer = func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 2, time.Second })
	}
	if err := awsapi.New(config, awsapi.SSM).Call(ctx, action, parameters, result); err != nil {
		failed := &requestError{action, err}
		if c.Rejected != nil && errors.Is(failed.explain(), awsapi.ErrCredentials) {
			c.Rejected()
		}
		return failed
	}
	return nil
}

// requestError is a failed request for an action. Its text may have secrets.
type requestError struct {
	action string
	err    error
}

func (e *requestError) Error() string { return e.action + ": " + e.err.Error() }

func (e *requestError) Unwrap() error { return e.err }

// explain returns the error for users.
func (e *requestError) explain() *awsapi.Error { return awsapi.Explain("ssm:"+e.action, e.err) }
