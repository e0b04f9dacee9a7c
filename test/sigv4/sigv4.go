// Package sigv4 verifies the signatures of RDS IAM authentication tokens and of requests to
// other services of AWS.
//
// A token is a presigned Signature Version 4 GET request without its scheme:
//
//	host:port/?Action=connect&DBUser=U&X-Amz-Algorithm=AWS4-HMAC-SHA256&...&X-Amz-Signature=S
//
// A token of Aurora DSQL has neither the port nor DBUser. Other requests are signed in
// their Authorization header: see VerifyHeader.
//
// The package follows the published rules only ("AWS Signature Version 4 for API requests"
// in the IAM User Guide; the query string form is under "Authenticating Requests: Using
// Query Parameters" in the Amazon S3 API Reference). It shares no code with the SDK, so its
// verification is independent of the signer.
package sigv4

import (
	"crypto/hmac"
	"errors"
	"fmt"
	"time"
)

// The errors of Verify and VerifyHeader, in the order of the checks, for errors.Is. No
// error of this package contains a token or any part of a key.
var (
	// ErrMalformed reports that it is not a presigned request with the form of a token, or
	// not one that is signed in its header.
	ErrMalformed = errors.New("malformed signed request")
	// ErrUnknownKey reports that the access key ID is unknown.
	ErrUnknownKey = errors.New("unknown access key")
	// ErrSessionToken reports a wrong or missing session token, or one with a long-lived
	// key.
	ErrSessionToken = errors.New("wrong session token")
	// ErrSignature reports a wrong secret, or a change after signing.
	ErrSignature = errors.New("wrong signature")
	// ErrNotYetValid reports a date more than MaxSkew in the future.
	ErrNotYetValid = errors.New("signature is not valid yet")
	// ErrExpired reports that the lifetime is over, which is MaxSkew for VerifyHeader.
	ErrExpired = errors.New("signature has expired")
)

// MaxSkew bounds how far the signer's clock may be ahead. For VerifyHeader, it also bounds
// how far it may be behind.
const MaxSkew = 5 * time.Minute

// Key is an AWS access key.
type Key struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string // empty for a long-lived key
	// Expires is when the key ends. Zero: never. Verify ignores it: a signature stays
	// valid.
	Expires time.Time
}

// Claims are the contents of a token. They are authentic only if Verify returned them
// without an error.
type Claims struct {
	Host            string        // host:port, or the host alone, as signed
	Path            string        // as in the token: "/", or empty
	Action          string        // "connect"
	User            string        // DBUser, or empty
	Region          string        // of the credential scope
	Service         string        // of the credential scope: "rds-db"
	AccessKeyID     string        // of the credential scope
	HasSessionToken bool          // signed with temporary credentials
	SignedAt        time.Time     // X-Amz-Date, UTC, in whole seconds
	Expires         time.Duration // X-Amz-Expires: lifetime from SignedAt
}

// Parse parses a token without verifying its signature or its age. The error is an
// ErrMalformed that names the invalid part.
func Parse(token string) (Claims, error) {
	r, err := parse(token)
	return r.claims, err
}

// Verify checks that token was signed by one of the keys that find returns and is valid at
// now. The caller compares the host, user, region and so on: the Claims are returned with
// every error but ErrMalformed.
func Verify(token string, find func(accessKeyID string) (Key, bool), now time.Time) (Claims, error) {
	r, err := parse(token)
	if err != nil {
		return r.claims, err
	}
	return r.claims, r.check(find, now)
}

// check finds the key of r, and verifies the signature and the time.
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
