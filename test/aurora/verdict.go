//go:build unix

package aurora

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/iamproxy/iamproxy/test/sigv4"
)

// Reason says in a word or two why a login was let in or refused.
type Reason string

// The reasons, in the order in which they are looked for.
const (
	OK           Reason = "ok"
	Throttled    Reason = "throttled"     // more logins than SetLoginLimit allows
	Malformed    Reason = "malformed"     // not a token at all
	UnknownKey   Reason = "key"           // no such access key
	SessionToken Reason = "session token" // not the one that goes with the access key
	Signature    Reason = "signature"     // wrong secret, or changed after signing
	NotYetValid  Reason = "not yet valid" // signed in the future
	Expired      Reason = "expired"       // the token is too old
	KeyExpired   Reason = "key expired"   // the access key is: see ExpireKey and sigv4.Key
	WrongUser    Reason = "user"          // for another user than the one who logs in, or names one to Aurora DSQL
	WrongHost    Reason = "host"          // for another host or port
	WrongPath    Reason = "path"          // not "/"
	WrongAction  Reason = "action"        // not "connect"; for Aurora DSQL, not the user's
	WrongService Reason = "service"       // not that of the Cluster
	WrongRegion  Reason = "region"        // for another region
	Lifetime     Reason = "lifetime"      // X-Amz-Expires is more than 15 minutes; not for Aurora DSQL
	NotAllowed   Reason = "policy"        // SetPolicy says so
)

// Verdict is what became of one token. It does not hold the token.
type Verdict struct {
	Time        time.Time // when the server asked
	User        string    // who logs in, whatever the token says
	OK          bool      // Reason is OK
	Reason      Reason
	TokenLength int          // bytes, as they arrived
	Fingerprint string       // see Fingerprint
	Claims      sigv4.Claims // zero where the token is malformed or was not looked at
}

// Fingerprint identifies a token without giving it away: the first 16
// hexadecimal digits of its SHA-256.
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
