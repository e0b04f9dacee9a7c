package fakeaws

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/test/sigv4"
)

// defaultLife is the default life of credentials.
const defaultLife = time.Hour

// credential is a key and the ARN of its owner.
type credential struct {
	key sigv4.Key
	arn string
}

// AddKey adds k as a key of arn, such as arn:aws:iam::111122223333:user/jane. It does not
// call Issued.
func (a *AWS) AddKey(k sigv4.Key, arn string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.keys == nil {
		a.keys = make(map[string]credential)
	}
	a.keys[k.AccessKeyID] = credential{k, arn}
}

// ExpireKey makes a key expire now.
func (a *AWS) ExpireKey(accessKeyID string) {
	now := a.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.keys[accessKeyID]
	c.key.Expires = now
	a.keys[accessKeyID] = c
}

// SetLife sets the life of new keys and of access tokens of OIDC. It is cut to whole
// seconds, as AWS does. 0 is 1 hour, or the duration requested from STS.
func (a *AWS) SetLife(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.life = d
}

// lifeOr returns the life of SetLife, or else d.
func (a *AWS) lifeOr(d time.Duration) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.life != 0 {
		return a.life
	}
	return d
}

// issue issues a new key for arn, with the life of SetLife, or else life.
func (a *AWS) issue(arn string, life time.Duration) sigv4.Key {
	noise := make([]byte, 30+300)
	rand.Read(noise)                   // never fails
	copy(noise[30:], "!\n\torigin_ec") // base64: IQoJb3JpZ2luX2Vj, as all session tokens begin
	key := sigv4.Key{
		AccessKeyID:     "ASIA" + rand.Text()[:16],
		SecretAccessKey: base64.StdEncoding.EncodeToString(noise[:30]),
		SessionToken:    base64.StdEncoding.EncodeToString(noise[30:]),
		Expires:         a.now().Add(a.lifeOr(life)).Truncate(time.Second),
	}
	a.AddKey(key, arn)
	if a.Issued != nil {
		a.Issued(key)
	}
	return key
}

// find looks up a key for sigv4.
func (a *AWS) find(accessKeyID string) (sigv4.Key, bool) {
	c, ok := a.credential(accessKeyID)
	return c.key, ok
}

func (a *AWS) credential(accessKeyID string) (credential, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, ok := a.keys[accessKeyID]
	return c, ok
}

// arn is a parsed ARN of IAM or STS: arn:partition:service::account:resource.
type arn struct{ partition, service, account, resource string }

func parseARN(s string) (arn, bool) {
	parts := strings.SplitN(s, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" {
		return arn{}, false
	}
	return arn{parts[1], parts[2], parts[4], parts[5]}, true
}

// sessionARN returns the ARN of a session of the role, without the role's path.
func sessionARN(role arn, session string) string {
	name := role.resource[strings.LastIndexByte(role.resource, '/')+1:]
	return "arn:" + role.partition + ":sts::" + role.account + ":assumed-role/" + name + "/" + session
}

// userID returns an id of IAM's form that depends on the ARN alone: AIDA for a user, and
// AROA...:SESSION for an assumed role.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids
func userID(s string) string {
	prefix, suffix, name := "AIDA", "", s
	if parsed, _ := parseARN(s); strings.HasPrefix(parsed.resource, "assumed-role/") {
		last := strings.LastIndexByte(s, '/')
		prefix, suffix, name = "AROA", ":"+s[last+1:], s[:last]
	}
	hash := sha256.Sum256([]byte(name))
	return prefix + base32.StdEncoding.EncodeToString(hash[:])[:17] + suffix
}
