package rdsapi_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/rdsapi"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

// requests returns a request of each method.
func requests(c *rdsapi.Client) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Find": func(ctx context.Context) error { _, err := c.Find(ctx, cluster); return err },
		"MayConnect": func(ctx context.Context) error {
			_, err := c.MayConnect(ctx, janeARN, auth.Resource{Region: region, Account: account, ID: "cluster-MYDB"}, "app")
			return err
		},
		"Secret": func(ctx context.Context) error { _, err := c.Secret(ctx, secretARN); return err },
	}
}

func TestCredentialsRejected(t *testing.T) {
	a := start(t)
	expired := sigv4.Key{AccessKeyID: "ASIAOLD", SecretAccessKey: "s", SessionToken: "t", Expires: time.Now().Add(-time.Second)}
	a.AddKey(expired, janeARN)
	for name, test := range map[string]struct {
		key  sigv4.Key
		part string
	}{
		"unknown": {sigv4.Key{AccessKeyID: "AKIAOTHER", SecretAccessKey: "s"}, "is unknown"},
		"secret":  {sigv4.Key{AccessKeyID: jane.AccessKeyID, SecretAccessKey: "s"}, "the signature does not match"},
		"expired": {expired, "they have expired"},
	} {
		for method, request := range requests(as(t, test.key)) {
			t.Run(name+" "+method, func(t *testing.T) {
				expectError(t, request(t.Context()), rdsapi.ErrCredentials, test.part)
			})
		}
	}
}

// If the local clock is off, the SDK corrects it by the first response.
func TestClockSkew(t *testing.T) {
	a := start(t)
	populate(a)
	a.Allow(fakeaws.Everyone, "*")
	a.SetClockOffset(20 * time.Minute)
	if _, err := as(t, jane).Find(t.Context(), cluster); err != nil {
		t.Error(err)
	}
}

func TestInvalidResponse(t *testing.T) {
	a := start(t)
	for name, test := range map[string]struct {
		fault fakeaws.Fault
		part  string
	}{
		"500":     {fakeaws.Fault{Status: 500, Body: "oops"}, "status 500"},
		"portal":  {fakeaws.Fault{Status: 200, Body: "<html>log in</html>"}, "is not from AWS"},
		"garbage": {fakeaws.Fault{Status: 200, Body: "\x00"}, "is not from AWS"},
		"cut":     {fakeaws.Fault{Cut: true}, "could not reach"},
		"403":     {fakeaws.Fault{Status: 403, Body: "blocked by the company"}, "is not from AWS"},
	} {
		for method, request := range requests(as(t, jane)) {
			t.Run(name+" "+method, func(t *testing.T) {
				a.SetFault(test.fault)
				defer a.SetFault(fakeaws.Fault{})
				within(t, func() { expectError(t, request(t.Context()), rdsapi.ErrUnreachable, test.part) })
			})
		}
	}
	if n := a.Requests(fakeaws.RDS); n > 2*5 {
		t.Errorf("%d requests to RDS, want no more than two each", n)
	}
}

func TestErrorCodes(t *testing.T) {
	const token = "IQoJb3JpZ2luX2Vj"
	a := start(t)
	client := as(t, jane)
	for code, test := range map[string]struct {
		status  int
		message string
		kind    error
		part    string
	}{
		"Throttling":            {400, "Rate exceeded", rdsapi.ErrUnreachable, "RDS's API throttles requests"},
		"ServiceUnavailable":    {503, "Service is unable to handle request.", rdsapi.ErrUnreachable, "status 503, ServiceUnavailable"},
		"InvalidParameterValue": {400, "Bad identifier.\nSecond line", nil, "rds:DescribeDBClusters: InvalidParameterValue: Bad identifier."},
		"InternalFailure":       {500, "", rdsapi.ErrUnreachable, "status 500"},
		"ValidationError":       {400, "", nil, "ValidationError: UnknownError"}, // the SDK's text
		"AccessDenied":          {403, "User: x is not authorized to perform: rds:DescribeDBClusters", rdsapi.ErrNotPermitted, "rds:DescribeDBClusters is not allowed"},
		// Some services quote the canonical request.
		"SignatureDoesNotMatch": {403, "The Canonical String for this request should have been\n'x-amz-security-token:" + token + "'",
			rdsapi.ErrCredentials, "the signature does not match"},
		"IncompleteSignature": {403, token, rdsapi.ErrCredentials, "the signature does not match"},
	} {
		t.Run(code, func(t *testing.T) {
			a.SetFault(fakeaws.Fault{Only: fakeaws.RDS, Status: test.status,
				Body: "<ErrorResponse><Error><Code>" + code + "</Code><Message>" + test.message + "</Message></Error></ErrorResponse>"})
			_, err := client.Find(t.Context(), cluster)
			expectError(t, err, test.kind, test.part)
			if strings.Contains(err.Error(), token) {
				t.Errorf("%v", err)
			}
		})
	}
}

// Neither the host nor the configuration has a region.
func TestNoRegion(t *testing.T) {
	a := start(t)
	client := as(t, jane)
	client.Config.Region = ""
	t.Setenv("AWS_ENDPOINT_URL_RDS", "")
	_, err := client.Find(t.Context(), global)
	expectError(t, err, nil, "rds:DescribeGlobalClusters: ")
	if n := a.Requests(fakeaws.RDS); n != 0 {
		t.Errorf("%d requests", n)
	}
	t.Log(err)
}

// A service that accepts no connections, as without a route to it. The requests run in
// parallel, since each takes until its timeout.
func TestTimeout(t *testing.T) {
	start(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	all := requests(staticClient(t, "http://"+listener.Addr().String()))
	failures := make(chan error, len(all))
	within(t, func() {
		for _, request := range all {
			go func() { failures <- request(t.Context()) }()
		}
		for range all {
			expectError(t, <-failures, rdsapi.ErrUnreachable, "'s API in time")
		}
	})
}

func TestConnectionRefused(t *testing.T) {
	start(t)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for method, request := range requests(staticClient(t, closed.URL)) {
		t.Run(method, func(t *testing.T) {
			within(t, func() { expectError(t, request(t.Context()), rdsapi.ErrUnreachable, "connection refused") })
		})
	}
}

func TestCanceled(t *testing.T) {
	a := start(t)
	a.SetFault(fakeaws.Fault{Delay: time.Hour})
	for method, request := range requests(as(t, jane)) {
		t.Run(method, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := request(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, rdsapi.ErrUnreachable) {
				t.Errorf("%v", err)
			}
		})
	}
}
