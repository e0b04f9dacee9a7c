// Package sigv4 checks the signature of an RDS IAM authentication token, and of
// requests to other services of AWS.
//
// A token is a presigned Signature Version 4 GET request without its scheme:
//
//	host:port/?Action=connect&DBUser=U&X-Amz-Algorithm=AWS4-HMAC-SHA256&...&X-Amz-Signature=S
//
// That of Aurora DSQL has neither the port nor DBUser. Other requests are signed
// in their Authorization header: see VerifyHeader.
//
// The package follows the published rules only ("AWS Signature Version 4 for
// API requests" in the IAM User Guide, formerly in the AWS General Reference;
// the query string form is under "Authenticating Requests: Using Query
// Parameters" in the Amazon S3 API Reference). It shares no code with the SDK,
// so a token that verifies here is checked independently of who signed it.
package sigv4

import (
	"crypto/hmac"
	"errors"
	"fmt"
	"time"
)

// What Verify and VerifyHeader find wrong, in the order in which they look. Test
// for them with errors.Is. No error of this package contains a token or any part of a key.
var (
	// ErrMalformed: not a presigned request with the form of a token, or not one
	// that is signed in its header.
	ErrMalformed = errors.New("malformed signed request")
	// ErrUnknownKey: nobody has the access key ID that the token names.
	ErrUnknownKey = errors.New("unknown access key")
	// ErrSessionToken: the session token is not the one that belongs to the
	// access key, is missing, or is there though the key is a long-lived one.
	ErrSessionToken = errors.New("wrong session token")
	// ErrSignature: signed with another secret, or changed after signing.
	ErrSignature = errors.New("wrong signature")
	// ErrNotYetValid: signed more than MaxSkew in the future.
	ErrNotYetValid = errors.New("signature is not valid yet")
	// ErrExpired: its lifetime is over, which is MaxSkew for VerifyHeader.
	ErrExpired = errors.New("signature has expired")
)

// MaxSkew is how far ahead of the verifier the clock of a signer may be. For
// VerifyHeader, it must be less than that behind, too.
const MaxSkew = 5 * time.Minute

// Key is what AWS hands out to sign with.
type Key struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string // empty for a long-lived key
	// Expires is when the key ends. Zero: never. Whether it has is not looked at
	// here: a signature stays as good as it was.
	Expires time.Time
}

// Claims is what a token says of itself. It is to be believed only when Verify
// returned it without an error.
type Claims struct {
	Host            string        // host:port, or the host alone, as signed
	Path            string        // as in the token: "/", or empty where the signer left it out
	Action          string        // "connect"
	User            string        // DBUser; empty where there is none
	Region          string        // of the credential scope
	Service         string        // of the credential scope: "rds-db"
	AccessKeyID     string        // of the credential scope
	HasSessionToken bool          // signed with temporary credentials
	SignedAt        time.Time     // X-Amz-Date, UTC, in whole seconds
	Expires         time.Duration // X-Amz-Expires: lifetime from SignedAt on
}

// Parse reads a token without checking its signature or its age. The error is
// an ErrMalformed that says which part is wrong.
func Parse(token string) (Claims, error) {
	r, err := parse(token)
	return r.claims, err
}

// Verify checks that token was signed by one of the keys that find knows and
// that it is valid at now. Which host, user, region and so on it was signed for
// is left to the caller to compare with what it wants: the Claims are returned
// with every error but ErrMalformed.
func Verify(token string, find func(accessKeyID string) (Key, bool), now time.Time) (Claims, error) {
	r, err := parse(token)
	if err != nil {
		return r.claims, err
	}
	return r.claims, r.check(find, now)
}

// check finds the key that r names and compares with it, and with the time.
func (r *request) check(find func(accessKeyID string) (Key, bool), now time.Time) error {
	key, ok := find(r.claims.AccessKeyID)
	if !ok {
		return ErrUnknownKey
	}
	if !hmac.Equal([]byte(key.SessionToken), []byte(r.sessionToken)) ||
		r.claims.HasSessionToken != (key.SessionToken != "") {
		return ErrSessionToken
	}
	if !hmac.Equal([]byte(r.sign(key.SecretAccessKey)), []byte(r.signature)) {
		return ErrSignature
	}
	if ahead := r.claims.SignedAt.Sub(now); ahead > MaxSkew {
		return fmt.Errorf("%w: signed %v in the future", ErrNotYetValid, ahead.Round(time.Second))
	}
	if late := now.Sub(r.claims.SignedAt.Add(r.claims.Expires)); late >= 0 {
		return fmt.Errorf("%w: %v ago", ErrExpired, late.Round(time.Second))
	}
	return nil
}
