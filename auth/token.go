// Package auth makes the tokens with which RDS and Aurora users log in. It
// knows AWS (credentials, regions, signing) and nothing of PostgreSQL's wire
// protocol.
package auth

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	rdsauth "github.com/aws/aws-sdk-go-v2/feature/rds/auth"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
)

const (
	// lifetime is how long RDS takes a token; it cannot be made longer.
	// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.html
	lifetime = 15 * time.Minute
	// fetchTimeout bounds one attempt to get credentials.
	fetchTimeout = 20 * time.Second
	// patience is how long a login waits for a new token while the old one
	// still holds: longer only delays what would work anyway.
	patience = 2 * time.Second
	// retryAfter spaces the attempts to replace a token that still holds.
	retryAfter = 10 * time.Second
	// shortCredentials are fetched anew before they sign.
	shortCredentials = time.Minute
	// distrustEvery spaces the refusals that have the credentials fetched anew.
	distrustEvery = time.Minute
	// maxUsers bounds the tokens kept: a client may claim any user name.
	maxUsers = 1000
)

// Tokens signs the tokens for one database and keeps them, one for each user,
// until two thirds of their life are over. A token lives 15 minutes, but no
// longer than the credentials that signed it. All methods may be called
// concurrently. The fields must not change after the first call.
type Tokens struct {
	// Endpoint is the database's host:port, for which tokens are signed.
	Endpoint string
	// Region is the AWS region of the database.
	Region string
	// Credentials sign. If they have a method Invalidate, as
	// aws.CredentialsCache has, it is used to have them fetched anew.
	Credentials aws.CredentialsProvider
	// Now is the clock. If nil, time.Now.
	Now func() time.Time
	// Log is told of renewals that fail while a token still holds. If nil,
	// nobody is.
	Log *zap.Logger

	signing singleflight.Group // by user

	mu         sync.Mutex // never held while AWS is asked
	kept       map[string]token
	distrusts  int       // how often credentials were given up for a refusal
	distrusted time.Time // when that was last
}

// token is a user's, or what is left of one that was refused: then it is
// neither fresh nor valid.
type token struct {
	value                     string
	signedAt, renewAt, expiry time.Time
	refused                   string // never to be kept again
}

// fresh tokens are used without a thought. A clock that was put back makes a
// token stale, since RDS does not take one from the future.
func (t token) fresh(now time.Time) bool {
	return !now.Before(t.signedAt) && now.Before(t.renewAt)
}

func (t token) valid(now time.Time) bool { return now.Before(t.expiry) }

// Token returns the token with which user logs in. Of several concurrent calls
// one signs. When a token is due for renewal and the credentials cannot be had,
// or not at once, the old one is used for as long as it is valid. The error is
// an *Error, around that of ctx if it was the caller's time that ran out.
func (t *Tokens) Token(ctx context.Context, user string) (string, error) {
	old := t.lookUp(user)
	if old.fresh(t.now()) {
		return old.value, nil
	}
	signed := t.signing.DoChan(user, func() (any, error) { return t.renew(user) })

	var giveUp <-chan time.Time
	if old.valid(t.now()) {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		giveUp = timer.C
	}
	select {
	case result := <-signed:
		if result.Err == nil {
			return result.Val.(token).value, nil
		}
		if old.valid(t.now()) {
			return old.value, nil
		}
		return "", result.Err
	case <-giveUp:
		return old.value, nil
	case <-ctx.Done():
		cause := context.Cause(ctx)
		return "", &Error{
			Message: "waiting for AWS credentials: " + cause.Error(),
			Hint:    "whoever gives out the AWS credentials does not answer; check that this host reaches them",
			Err:     cause,
		}
	}
}

// Refuse says that the server did not take this token of user's: it is not
// used again, and if that is the first refusal in a minute, the credentials
// that signed it are not either.
func (t *Tokens) Refuse(user, value string) {
	if t.distrust(user, value) {
		// Before the token goes: who signs the next one must not find these.
		t.invalidate()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept[user].value != value {
		return // another session was faster
	}
	t.kept[user] = token{refused: value}
	t.signing.Forget(user)
}

// distrust decides whether the credentials go with a refused token of theirs.
func (t *Tokens) distrust(user, value string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if t.kept[user].value != value || now.Sub(t.distrusted).Abs() < distrustEvery {
		return false
	}
	t.distrusted = now
	t.distrusts++
	return true
}

// RefusedHint is what to do when the server refuses user's tokens. All that
// the server says in this case is "PAM authentication failed".
func (t *Tokens) RefusedHint(user string) string {
	return fmt.Sprintf("the token was signed for %s in %s as database user %s. Check, in this order: "+
		"the signing role is allowed rds-db:connect on arn:%s:rds-db:%s:ACCOUNT:dbuser:RESOURCE_ID/%s; "+
		"the database has IAM authentication enabled; the user exists and was granted rds_iam; "+
		"this machine's clock is right. The log export iam-db-auth-error of the database has the reason.",
		t.Endpoint, t.Region, user, partition(t.Region), t.Region, user)
}

// NotAskedHint is what to do when the server asks user for another kind of
// password than a token.
func (t *Tokens) NotAskedHint(user string) string {
	return fmt.Sprintf(`connect as an administrator and run: GRANT rds_iam TO "%s"; if that was done, enable IAM authentication on the database`,
		strings.ReplaceAll(user, `"`, `""`))
}

func (t *Tokens) lookUp(user string) token {
	found, _ := t.lookUpAt(user)
	return found
}

func (t *Tokens) lookUpAt(user string) (found token, distrusts int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kept[user], t.distrusts
}

// renew runs once at a time for a user, and not on behalf of one client: the
// clients that wait for it may leave.
func (t *Tokens) renew(user string) (token, error) {
	old, distrusts := t.lookUpAt(user)
	if old.fresh(t.now()) {
		return old, nil // signed between the caller's look and now
	}
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	renewed, err := t.sign(ctx, user)
	if err != nil {
		if now := t.now(); old.valid(now) {
			t.log().Warn("token not renewed; the old one is used as long as it is valid",
				zap.String("endpoint", t.Endpoint), zap.String("user", user),
				zap.Time("valid_until", old.expiry), zap.Error(err))
			old.renewAt = now.Add(retryAfter)
			t.keep(user, old, distrusts)
		}
		return token{}, err
	}
	t.keep(user, renewed, distrusts)
	return renewed, nil
}

// sign signs with one snapshot of the credentials, so that the token's life is
// known to be within theirs.
func (t *Tokens) sign(ctx context.Context, user string) (token, error) {
	creds, err := t.credentials(ctx)
	if err != nil {
		return token{}, err
	}
	if !creds.HasKeys() {
		return token{}, &Error{
			Message: "the source of the AWS credentials gave no access key with a secret",
			Hint:    "check what it gives: " + creds.Source,
		}
	}
	now := t.now()
	value, err := rdsauth.BuildAuthToken(ctx, t.Endpoint, t.Region, user, credentials.StaticCredentialsProvider{Value: creds})
	if err != nil {
		return token{}, &Error{Message: "cannot sign a token: " + err.Error(), Err: err}
	}
	life := lifetime
	if creds.CanExpire {
		life = min(life, creds.Expires.Sub(now))
	}
	return token{
		value:    withSlash(value),
		signedAt: now,
		renewAt:  now.Add(life * 2 / 3),
		expiry:   now.Add(life),
	}, nil
}

// credentials fetches credentials anew that are about to expire, and makes do
// with the old ones if that fails.
func (t *Tokens) credentials(ctx context.Context) (aws.Credentials, error) {
	creds, err := t.Credentials.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, err
	}
	if !creds.CanExpire || creds.Expires.Sub(t.now()) > shortCredentials {
		return creds, nil
	}
	t.invalidate()
	if anew, err := t.Credentials.Retrieve(ctx); err == nil {
		creds = anew
	}
	if !t.now().Before(creds.Expires) {
		return aws.Credentials{}, &Error{
			Message: "the AWS credentials expired at " + creds.Expires.UTC().Format(time.RFC3339),
			Hint:    "renew them where they come from; if they are new, check this machine's clock",
		}
	}
	return creds, nil
}

func (t *Tokens) invalidate() {
	if cache, ok := t.Credentials.(interface{ Invalidate() }); ok {
		cache.Invalidate()
	}
}

// keep keeps a token, unless it was refused (one that is signed again within a
// second is the same), or the credentials were given up since its renewal began.
func (t *Tokens) keep(user string, kept token, distrusts int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if distrusts != t.distrusts || kept.value == t.kept[user].refused {
		return
	}
	if t.kept == nil {
		t.kept = make(map[string]token)
	}
	if _, known := t.kept[user]; !known && len(t.kept) >= maxUsers {
		for other := range t.kept { // any one: a lost token costs a signature
			delete(t.kept, other)
			break
		}
	}
	t.kept[user] = kept
}

// now is by the wall clock, in which credentials and tokens expire; the
// monotonic one stands still while a laptop sleeps.
func (t *Tokens) now() time.Time {
	if t.Now != nil {
		return t.Now().Round(0)
	}
	return time.Now().Round(0)
}

func (t *Tokens) log() *zap.Logger {
	if t.Log == nil {
		return zap.NewNop()
	}
	return t.Log
}

// withSlash puts the token in the form host:port/?Action=..., as the AWS CLI
// prints it. Some releases of the SDK leave the slash out, and some gateways of
// AWS refuse that form (aws-sdk-go-v2 #3365). The signature is the same: SigV4
// takes an empty path for "/".
func withSlash(token string) string {
	before, query, found := strings.Cut(token, "?")
	if !found || strings.HasSuffix(before, "/") {
		return token
	}
	return before + "/?" + query
}
