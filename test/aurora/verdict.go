//go:build unix

package aurora

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/iamproxy/iamproxy/test/sigv4"
)

// Reason is why a login was accepted or rejected.
type Reason string

// The reasons, in the order of the checks.
const (
	OK           Reason = "ok"
	Throttled    Reason = "throttled"     // above the limit of SetLoginLimit
	Malformed    Reason = "malformed"     // not a token
	UnknownKey   Reason = "key"           // unknown access key
	SessionToken Reason = "session token" // not the session token of the access key
	Signature    Reason = "signature"     // wrong secret, or changed after signing
	NotYetValid  Reason = "not yet valid" // signed in the future
	Expired      Reason = "expired"       // the token is too old
	KeyExpired   Reason = "key expired"   // the access key has expired: see ExpireKey and sigv4.Key
	WrongUser    Reason = "user"          // for another user; for Aurora DSQL, has a user
	WrongHost    Reason = "host"          // for another host or port
	WrongPath    Reason = "path"          // not "/"
	WrongAction  Reason = "action"        // not "connect"; for Aurora DSQL, not the user's
	WrongService Reason = "service"       // not the service of the Cluster
	WrongRegion  Reason = "region"        // for another region
	Lifetime     Reason = "lifetime"      // X-Amz-Expires is more than 15 minutes; not for Aurora DSQL
	NotAllowed   Reason = "policy"        // rejected by SetPolicy
)

// Verdict is the result of verifying one token. It does not hold the token.
type Verdict struct {
	Time        time.Time // of the server's request
	User        string    // of the login, whatever the token says
	OK          bool      // Reason is OK
	Reason      Reason
	TokenLength int          // in bytes, as received
	Fingerprint string       // see Fingerprint
	Claims      sigv4.Claims // zero if the token is malformed or was not verified
}

// Fingerprint identifies a token without revealing it: the first 16 hexadecimal digits of
// its SHA-256.
func Fingerprint(token string) string {
	hash := sha256.Sum256([]byte(token))
	return hex.EncodeToString(hash[:8])
}

// reason translates an error of sigv4.Verify.
func reason(err error) Reason {
	for _, r := range []struct {
		err    error
		reason Reason
	}{
		{sigv4.ErrUnknownKey, UnknownKey},
		{sigv4.ErrSessionToken, SessionToken},
		{sigv4.ErrSignature, Signature},
		{sigv4.ErrNotYetValid, NotYetValid},
		{sigv4.ErrExpired, Expired},
	} {
		if errors.Is(err, r.err) {
			return r.reason
		}
	}
	return Malformed
}
