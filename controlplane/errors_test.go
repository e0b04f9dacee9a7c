package controlplane_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/controlplane"
	"github.com/iamproxy/iamproxy/internal/fakeaws"
	"github.com/iamproxy/iamproxy/internal/sigv4"
)

// questions are one of each method's.
func questions(c *controlplane.Client) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Find": func(ctx context.Context) error { _, err := c.Find(ctx, cluster); return err },
		"MayConnect": func(ctx context.Context) error {
			_, err := c.MayConnect(ctx, janeARN, auth.Resource{Region: region, Account: account, ID: "cluster-MYDB"}, "app")
			return err
		},
		"Secret": func(ctx context.Context) error { _, err := c.Secret(ctx, secretARN); return err },
	}
}

func TestCredentialsRefused(t *testing.T) {
	a := start(t)
	expired := sigv4.Key{AccessKeyID: "ASIAOLD", SecretAccessKey: "s", SessionToken: "t", Expires: time.Now().Add(-time.Second)}
	a.AddKey(expired, janeARN)
	for name, test := range map[string]struct {
		key  sigv4.Key
		part string
	}{
		"unknown": {sigv4.Key{AccessKeyID: "AKIAOTHER", SecretAccessKey: "s"}, "is not known"},
		"secret":  {sigv4.Key{AccessKeyID: jane.AccessKeyID, SecretAccessKey: "s"}, "the signature is not right"},
		"expired": {expired, "they have expired"},
	} {
		for method, ask := range questions(as(t, test.key)) {
			t.Run(name+" "+method, func(t *testing.T) {
				expectError(t, ask(t.Context()), controlplane.ErrCredentials, test.part)
			})
		}
	}
}

// TestClock is a machine whose clock is off: the SDK learns the time from the first answer.
func TestClock(t *testing.T) {
	a := start(t)
	populate(a)
	a.Allow(fakeaws.Everyone, "*")
	a.SetClockOffset(20 * time.Minute)
	if _, err := as(t, jane).Find(t.Context(), cluster); err != nil {
		t.Error(err)
	}
}

func TestServiceFails(t *testing.T) {
	a := start(t)
	for name, test := range map[string]struct {
		fault fakeaws.Fault
		part  string
	}{
		"500":     {fakeaws.Fault{Status: 500, Body: "oops"}, "status 500"},
		"portal":  {fakeaws.Fault{Status: 200, Body: "<html>log in</html>"}, "is not AWS"},
		"garbage": {fakeaws.Fault{Status: 200, Body: "\x00"}, "is not AWS"},
		"cut":     {fakeaws.Fault{Cut: true}, "does not answer from here"},
		"403":     {fakeaws.Fault{Status: 403, Body: "blocked by the company"}, "is not AWS"},
	} {
		for method, ask := range questions(as(t, jane)) {
			t.Run(name+" "+method, func(t *testing.T) {
				a.SetFault(test.fault)
				defer a.SetFault(fakeaws.Fault{})
				within(t, func() { expectError(t, ask(t.Context()), controlplane.ErrUnreachable, test.part) })
			})
		}
	}
	if n := a.Requests(fakeaws.RDS); n > 2*5 {
		t.Errorf("%d requests to RDS, want no more than two each", n)
	}
}

// TestSilence is a subnet that nothing leaves: a server that never accepts.
func TestSilence(t *testing.T) {
	start(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() }) // after the subtests, which run later
	for method, ask := range questions(bare(t, "http://"+listener.Addr().String())) {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			within(t, func() {
				expectError(t, ask(t.Context()), controlplane.ErrUnreachable, "API does not answer from here in time")
			})
		})
	}
}

func TestNobodyListens(t *testing.T) {
	start(t)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for method, ask := range questions(bare(t, closed.URL)) {
		t.Run(method, func(t *testing.T) {
			within(t, func() { expectError(t, ask(t.Context()), controlplane.ErrUnreachable, "connection refused") })
		})
	}
}

func TestGivenUp(t *testing.T) {
	a := start(t)
	a.SetFault(fakeaws.Fault{Delay: time.Hour})
	for method, ask := range questions(as(t, jane)) {
		t.Run(method, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := ask(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, controlplane.ErrUnreachable) {
				t.Errorf("%v", err)
			}
		})
	}
}
