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

	"github.com/iamproxy/iamproxy/internal/sigv4"
)

const (
	testEndpoint = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com:5432"
	testRegion   = "eu-west-1"
)

// source is a source of credentials: each fetch makes new ones, which it keeps
// as aws.CredentialsCache does.
type source struct {
	life    time.Duration // of the credentials it makes; zero: unlimited
	delay   time.Duration
	broken  atomic.Bool
	fetched atomic.Int32

	mu     sync.Mutex
	cached *aws.Credentials
}

func (s *source) Retrieve(context.Context) (aws.Credentials, error) {
	s.mu.Lock()
	cached := s.cached
	s.mu.Unlock()
	if cached != nil && (!cached.CanExpire || time.Now().Before(cached.Expires)) {
		return *cached, nil
	}
	n := s.fetched.Add(1)
	time.Sleep(s.delay)
	if s.broken.Load() {
		return aws.Credentials{}, &Error{Message: "source is down", Hint: "mend it"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cached = &aws.Credentials{
		AccessKeyID:     fmt.Sprintf("ASIA%016d", n),
		SecretAccessKey: "secret",
		SessionToken:    "session",
		CanExpire:       s.life != 0,
		Expires:         time.Now().Add(s.life),
	}
	return *s.cached, nil
}

func (s *source) Invalidate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cached = nil
}

func newTokens(s *source) *Tokens {
	return &Tokens{Endpoint: testEndpoint, Region: testRegion, Credentials: s}
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

// The slash before the question mark is what some gateways insist on; which
// releases of the SDK write it is nothing to rely on.
func TestTokenShape(t *testing.T) {
	token := mustToken(t, newTokens(&source{}), "iam_user")
	if !strings.HasPrefix(token, testEndpoint+"/?Action=connect&DBUser=iam_user&X-Amz-Algorithm=AWS4-HMAC-SHA256&") {
		t.Error("token does not begin as the AWS CLI's does")
	}
	if strings.Contains(token, "://") || strings.Count(token, "/?") != 1 {
		t.Error("token has a scheme, or not one path")
	}
	c := claims(t, token)
	if c.Host != testEndpoint || c.User != "iam_user" || c.Region != testRegion || c.Service != "rds-db" ||
		c.Action != "connect" || c.Path != "/" || c.Expires != 15*time.Minute || !c.HasSessionToken {
		t.Errorf("token claims %+v", c)
	}
	if got := withSlash(token); got != token {
		t.Error("a second slash is added")
	}
}

func TestTokenForOddUsers(t *testing.T) {
	tokens := newTokens(&source{})
	for _, user := range []string{"a b", "a&b=c?d/e", "ünï", `"quoted"`, "a+b%20"} {
		if c := claims(t, mustToken(t, tokens, user)); c.User != user {
			t.Errorf("token for %q is for %q", user, c.User)
		}
	}
}

func TestTokenIsReusedForTwoThirdsOfItsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		tokens := newTokens(s)
		first := mustToken(t, tokens, "u")
		if other := mustToken(t, tokens, "v"); other == first {
			t.Error("two users have the same token")
		}
		time.Sleep(10*time.Minute - time.Second)
		if mustToken(t, tokens, "u") != first {
			t.Error("a token is signed anew before it need be")
		}
		time.Sleep(time.Second)
		if mustToken(t, tokens, "u") == first {
			t.Error("a token is used for more than two thirds of its life")
		}
	})
}

func TestTokenDiesWithItsCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{life: 3 * time.Minute}
		tokens := newTokens(s)
		mustToken(t, tokens, "u")
		for range 60 {
			time.Sleep(10 * time.Second)
			c := claims(t, mustToken(t, tokens, "u"))
			var n int32
			_, _ = fmt.Sscanf(c.AccessKeyID, "ASIA%d", &n)
			if n != s.fetched.Load() {
				t.Fatal("a token is of credentials that have been replaced")
			}
			if s.cached.Expires.Before(time.Now()) {
				t.Fatal("a token outlives its credentials")
			}
		}
		// 10 minutes of credentials that are replaced after 2 to 3 minutes.
		if n := s.fetched.Load(); n > 6 {
			t.Errorf("credentials were fetched %d times", n)
		}
	})
}

func TestShortCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{life: 20 * time.Second}
		tokens := newTokens(s)
		for range 120 {
			mustToken(t, tokens, "u")
			if left := time.Until(s.cached.Expires); left < 5*time.Second {
				t.Fatalf("token signed with credentials that have %v left", left)
			}
			time.Sleep(500 * time.Millisecond)
		}
		if n := s.fetched.Load(); n > 10 {
			t.Errorf("credentials were fetched %d times in a minute", n)
		}
	})
}

func TestFirstUsersSignOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{delay: time.Second}
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

// While one user's token waits for AWS, another's is at hand.
func TestNoLockWhileAWSIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{life: 16 * time.Minute}
		tokens := newTokens(s)
		mustToken(t, tokens, "kept")
		s.delay = 10 * time.Second
		s.Invalidate()
		go func() { _, _ = tokens.Token(t.Context(), "new") }()
		synctest.Wait()
		begun := time.Now()
		mustToken(t, tokens, "kept")
		if waited := time.Since(begun); waited != 0 {
			t.Errorf("waited %v", waited)
		}
		time.Sleep(time.Minute)
	})
}

func TestClientLeavesWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{delay: 10 * time.Second}
		tokens := newTokens(s)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := tokens.Token(ctx, "u")
		var failed *Error
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &failed) || !strings.Contains(failed.Advice(), "does not answer") {
			t.Errorf("got error %v", err)
		}
		mustToken(t, tokens, "u") // what the first one began goes on
		if n := s.fetched.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

// once gives its credentials to the first who asks.
type once struct {
	creds aws.Credentials
	asked int
}

func (o *once) Retrieve(context.Context) (aws.Credentials, error) {
	if o.asked++; o.asked > 1 {
		return aws.Credentials{}, errors.New("no more")
	}
	return o.creds, nil
}

func TestClockPutBack(t *testing.T) {
	now := time.Now().Add(time.Hour)
	tokens := newTokens(&source{})
	tokens.Now = func() time.Time { return now }
	mustToken(t, tokens, "u")
	now = now.Add(-time.Hour)
	if tokens.lookUp("u").fresh(tokens.now()) {
		t.Error("a token from the future is fresh")
	}
	mustToken(t, tokens, "u")
	if signedAt := tokens.lookUp("u").signedAt; !signedAt.Equal(now.Round(0)) {
		t.Errorf("token is of %v, not signed anew at %v", signedAt, now)
	}
}

func TestExpiredCredentials(t *testing.T) {
	tokens := newTokens(&source{life: -time.Minute})
	_, err := tokens.Token(t.Context(), "u")
	if err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("got error %v", err)
	}
}

func TestUsersAreBounded(t *testing.T) {
	tokens := newTokens(&source{})
	for i := range maxUsers + 100 {
		mustToken(t, tokens, fmt.Sprint("user", i))
	}
	if len(tokens.kept) > maxUsers {
		t.Errorf("%d tokens kept", len(tokens.kept))
	}
}

func TestHints(t *testing.T) {
	tokens := &Tokens{Endpoint: testEndpoint, Region: "us-gov-west-1"}
	hint := tokens.RefusedHint("app")
	for _, want := range []string{testEndpoint, "us-gov-west-1", "arn:aws-us-gov:rds-db:us-gov-west-1:ACCOUNT:dbuser:RESOURCE_ID/app", "rds_iam", "clock"} {
		if !strings.Contains(hint, want) {
			t.Errorf("hint %q does not name %q", hint, want)
		}
	}
	if hint := tokens.NotAskedHint(`we"ird`); !strings.Contains(hint, `GRANT rds_iam TO "we""ird"`) {
		t.Errorf("hint %q", hint)
	}
}
