// Package sigv4 checks the signature of an RDS IAM authentication token.
//
// A token is a presigned Signature Version 4 GET request without its scheme:
//
//	host:port/?Action=connect&DBUser=U&X-Amz-Algorithm=AWS4-HMAC-SHA256&...&X-Amz-Signature=S
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

// What Verify finds wrong, in the order in which it looks. Test for them with
// errors.Is. No error of this package contains a token or any part of a key.
var (
	// ErrMalformed: not a presigned request with the form of a token.
	ErrMalformed = errors.New("malformed token")
	// ErrUnknownKey: nobody has the access key ID that the token names.
	ErrUnknownKey = errors.New("unknown access key")
	// ErrSessionToken: the session token is not the one that belongs to the
	// access key, is missing, or is there though the key is a long-lived one.
	ErrSessionToken = errors.New("wrong session token")
	// ErrSignature: signed with another secret, or changed after signing.
	ErrSignature = errors.New("wrong signature")
	// ErrNotYetValid: signed more than MaxSkew in the future.
	ErrNotYetValid = errors.New("token is not valid yet")
	// ErrExpired: its lifetime is over.
	ErrExpired = errors.New("token has expired")
)

// MaxSkew is how far ahead of the verifier the clock of a signer may be.
const MaxSkew = 5 * time.Minute

// Key is what AWS hands out to sign with.
type Key struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string // empty for a long-lived key
}

// Claims is what a token says of itself. It is to be believed only when Verify
// returned it without an error.
type Claims struct {
	Host            string        // host:port, as signed
	Path            string        // as in the token: "/", or empty where the signer left it out
	Action          string        // "connect"
	User            string        // DBUser
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
	key, ok := find(r.claims.AccessKeyID)
	if !ok {
		return r.claims, ErrUnknownKey
	}
	if !hmac.Equal([]byte(key.SessionToken), []byte(r.sessionToken)) ||
		r.claims.HasSessionToken != (key.SessionToken != "") {
		return r.claims, ErrSessionToken
	}
	if !hmac.Equal([]byte(r.sign(key.SecretAccessKey)), []byte(r.signature)) {
		return r.claims, ErrSignature
	}
	if ahead := r.claims.SignedAt.Sub(now); ahead > MaxSkew {
		return r.claims, fmt.Errorf("%w: signed %v in the future", ErrNotYetValid, ahead.Round(time.Second))
	}
	if late := now.Sub(r.claims.SignedAt.Add(r.claims.Expires)); late >= 0 {
		return r.claims, fmt.Errorf("%w: %v ago", ErrExpired, late.Round(time.Second))
	}
	return r.claims, nil
}
