package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/iamproxy/iamproxy/test/sigv4"
)

const (
	testEndpoint = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com:5432"
	testRegion   = "eu-west-1"
)

// fake is a source whose every fetch returns new credentials.
type fake struct {
	life    time.Duration // of its credentials; zero if unlimited
	delay   time.Duration
	broken  atomic.Bool
	fetched atomic.Int32
}

func (s *fake) fetch(context.Context) (aws.Credentials, error) {
	n := s.fetched.Add(1)
	time.Sleep(s.delay)
	if s.broken.Load() {
		return aws.Credentials{}, &Error{Message: "source is down", Hint: "repair it"}
	}
	return aws.Credentials{
		AccessKeyID:     keyID(n),
		SecretAccessKey: "secret",
		SessionToken:    "session",
		Source:          "somewhere",
		CanExpire:       s.life != 0,
		Expires:         time.Now().Add(s.life),
	}, nil
}

func keyID(n int32) string { return fmt.Sprintf("ASIA%016d", n) }

func newTokens(s source) *Tokens {
	return &Tokens{Endpoint: testEndpoint, Region: testRegion, Kind: Cluster, Identity: &Identity{source: s}}
}

// wait requests a token for user u within limit and returns the error.
func wait(t *testing.T, tokens *Tokens, limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, err := tokens.Token(ctx, "u")
	return err
}

func mustToken(t *testing.T, tokens *Tokens, user string) string {
	t.Helper()
	token, err := tokens.Token(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func claims(t *testing.T, token string) sigv4.Claims {
	t.Helper()
	c, err := sigv4.Verify(token, func(id string) (sigv4.Key, bool) {
		return sigv4.Key{AccessKeyID: id, SecretAccessKey: "secret", SessionToken: "session"}, true
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestTokenShape verifies that a token has the form that the AWS CLI prints. Some
// gateways require the slash before the question mark.
func TestTokenShape(t *testing.T) {
	token := mustToken(t, newTokens(&fake{}), "iam_user")
	if !strings.HasPrefix(token, testEndpoint+"/?Action=connect&DBUser=iam_user&X-Amz-Algorithm=AWS4-HMAC-SHA256&") {
		t.Error("the token does not begin like the AWS CLI's")
	}
	if strings.Contains(token, "://") || strings.Count(token, "/?") != 1 {
		t.Error("the token has a scheme, or more than one path")
	}
	c := claims(t, token)
	if c.Host != testEndpoint || c.User != "iam_user" || c.Region != testRegion || c.Service != "rds-db" ||
		c.Action != "connect" || c.Path != "/" || c.Expires != 15*time.Minute || !c.HasSessionToken {
		t.Errorf("token claims %+v", c)
	}
	if got := withSlash(token); got != token {
		t.Error("withSlash added a second slash")
	}
}

func TestTokenForUnusualUsers(t *testing.T) {
	tokens := newTokens(&fake{})
	for _, user := range []string{"a b", "a&b=c?d/e", "ünï", `"quoted"`, "a+b%20"} {
		if c := claims(t, mustToken(t, tokens, user)); c.User != user {
			t.Errorf("token for %q is for %q", user, c.User)
		}
	}
}

func TestTokenIsReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{}
		tokens := newTokens(s)
		first := mustToken(t, tokens, "u")
		if other := mustToken(t, tokens, "v"); other == first {
			t.Error("two users have the same token")
		}
		time.Sleep(10*time.Minute - time.Second)
		if mustToken(t, tokens, "u") != first {
			t.Error("a token is replaced before two thirds of its life")
		}
		time.Sleep(time.Second)
		mustToken(t, tokens, "u")
		synctest.Wait() // for the refresh in the background
		if mustToken(t, tokens, "u") == first {
			t.Error("a token is used for more than two thirds of its life")
		}
	})
}

func TestTokenExpiresWithCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{life: 3 * time.Minute}
		tokens := newTokens(s)
		for range 60 { // 10 minutes
			mustToken(t, tokens, "u")
			synctest.Wait() // for the refresh in the background
			if left := time.Until(tokens.lookUp("u").expiry); left > s.life || left < expiryMargin {
				t.Fatalf("token with %v left", left)
			}
			time.Sleep(10 * time.Second)
		}
		if n := s.fetched.Load(); n > 6 { // each 2 minutes
			t.Errorf("credentials were fetched %d times", n)
		}
	})
}

func TestShortLivedCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{life: 20 * time.Second, delay: 100 * time.Millisecond}
		tokens := newTokens(s)
		for range 120 {
			token := mustToken(t, tokens, "u")
			if age := time.Since(claims(t, token).SignedAt); age > s.life*5/6 {
				t.Fatalf("token is %v old", age)
			}
			time.Sleep(500 * time.Millisecond)
		}
		if n := s.fetched.Load(); n > 5 {
			t.Errorf("credentials were fetched %d times in a minute", n)
		}
	})
}

func TestConcurrentCallsSignOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{delay: time.Second}
		tokens := newTokens(s)
		var all sync.WaitGroup
		var mu sync.Mutex
		seen := map[string]bool{}
		for range 100 {
			all.Go(func() {
				token, err := tokens.Token(t.Context(), "u")
				mu.Lock()
				defer mu.Unlock()
				seen[token] = err == nil
			})
		}
		all.Wait()
		if len(seen) != 1 || s.fetched.Load() != 1 {
			t.Errorf("%d tokens, %d fetches", len(seen), s.fetched.Load())
		}
	})
}

// TestRefreshInTheBackground verifies that no login waits for the refresh of a stale
// token.
func TestRefreshInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{life: 16 * time.Minute}
		tokens := newTokens(s)
		first := mustToken(t, tokens, "u")
		time.Sleep(11 * time.Minute)
		s.delay = 10 * time.Second
		begun := time.Now()
		if mustToken(t, tokens, "u") != first || time.Since(begun) != 0 {
			t.Errorf("waited %v", time.Since(begun))
		}
		time.Sleep(s.delay + time.Second)
		if mustToken(t, tokens, "u") == first || time.Since(begun) != s.delay+time.Second {
			t.Error("the refresh was lost")
		}
	})
}

func TestClientDisconnectsWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{delay: 10 * time.Second}
		tokens := newTokens(s)
		err := wait(t, tokens, time.Second)
		var failed *Error
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &failed) || failed.Code != ReasonCredentialsTimeout || failed.Message != "the source of the AWS credentials has not answered in time" {
			t.Errorf("got error %v", err)
		}
		mustToken(t, tokens, "u") // the first fetch continues
		if n := s.fetched.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestExpiredCredentials(t *testing.T) {
	tokens := newTokens(&fake{life: -time.Minute})
	_, err := tokens.Token(t.Context(), "u")
	if reasonOf(err) != ReasonCredentialsExpired {
		t.Errorf("got error %v", err)
	}
}

func TestCredentialsWithoutASecret(t *testing.T) {
	tokens := newTokens(sourceFunc(func() (aws.Credentials, error) { return aws.Credentials{AccessKeyID: "AKIA", Source: "where"}, nil }))
	_, err := tokens.Token(t.Context(), "u")
	var failed *Error
	if !errors.As(err, &failed) || failed.Code != ReasonCredentialsIncomplete || !strings.Contains(failed.Advice(), "where") {
		t.Errorf("got %v", err)
	}
}

type sourceFunc func() (aws.Credentials, error)

func (f sourceFunc) fetch(context.Context) (aws.Credentials, error) { return f() }

func TestUsersAreLimited(t *testing.T) {
	tokens := newTokens(&fake{})
	for i := range maxUsers + 100 {
		mustToken(t, tokens, fmt.Sprint("user", i))
	}
	if len(tokens.cache) > maxUsers {
		t.Errorf("%d tokens cached", len(tokens.cache))
	}
}

// TestDSQLToken verifies the form of Aurora DSQL's tokens.
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/SECTION_authentication-token.html
func TestDSQLToken(t *testing.T) {
	const host = "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"
	tokens := &Tokens{Endpoint: host + ":5432", Region: "us-east-1", Kind: DSQL, Identity: &Identity{source: &fake{}}}
	for user, action := range map[string]string{"admin": "DbConnectAdmin", "Admin": "DbConnect", "app": "DbConnect"} {
		token := mustToken(t, tokens, user)
		if !strings.HasPrefix(token, host+"/?Action="+action+"&X-Amz-Algorithm=AWS4-HMAC-SHA256&") {
			t.Errorf("token of %s begins %.90s", user, token)
		}
		c := claims(t, token)
		if c.Host != host || c.User != "" || c.Service != "dsql" || c.Action != action || c.Expires != 15*time.Minute || c.Region != "us-east-1" {
			t.Errorf("token claims %+v", c)
		}
	}
}
