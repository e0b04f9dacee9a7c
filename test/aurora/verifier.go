//go:build unix

package aurora

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/iamproxy/iamproxy/test/sigv4"
)

// The prefix and suffix of the user's name in the DN of a bind.
const (
	dnPrefix = "cn="
	dnSuffix = ",ou=" + RDSRole
)

// The longest X-Amz-Expires that the services accept.
const (
	maxLifetimeRDS  = 15 * time.Minute
	maxLifetimeDSQL = 7 * 24 * time.Hour
)

// verifier verifies tokens and records the verdicts. The zero value has no keys and rejects
// all tokens.
type verifier struct {
	mu       sync.Mutex
	service  string
	host     string // as signed: host:port, or the host alone
	region   string
	keys     map[string]sigv4.Key                // by access key ID; replaced, never modified
	expired  map[string]bool                     // by access key ID
	clock    func() time.Time                    // nil: time.Now
	allowed  func(accessKeyID, user string) bool // nil: all are
	delay    time.Duration
	limit    int         // logins per second; 0: none
	recent   []time.Time // logins within the last second
	verdicts []Verdict
}

// expect sets the claims of valid tokens, and adds keys.
func (v *verifier) expect(service, host, region string, keys []sigv4.Key) {
	v.mu.Lock()
	v.service, v.host, v.region = service, host, region
	v.mu.Unlock()
	for _, k := range keys {
		v.addKey(k)
	}
}

func (v *verifier) addKey(k sigv4.Key) {
	v.mu.Lock()
	defer v.mu.Unlock()
	keys := maps.Clone(v.keys)
	if keys == nil {
		keys = make(map[string]sigv4.Key)
	}
	keys[k.AccessKeyID] = k
	v.keys = keys
	delete(v.expired, k.AccessKeyID)
}

// bind answers the LDAP server: it reports whether the user of dn may log in with this
// password. It delays the answer by SetDelay, unless ctx ends first.
func (v *verifier) bind(ctx context.Context, dn, password string) bool {
	user := strings.TrimSuffix(strings.TrimPrefix(dn, dnPrefix), dnSuffix)
	ok, delay := v.verify(user, password)
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return false
		}
	}
	return ok
}

// verify verifies one login and records the verdict.
func (v *verifier) verify(user, token string) (ok bool, delay time.Duration) {
	v.mu.Lock()
	clock, keys := v.clock, v.keys
	v.mu.Unlock()
	if clock == nil {
		clock = time.Now
	}
	now := clock() // without the lock: it is a function of the caller
	find := func(id string) (sigv4.Key, bool) { k, ok := keys[id]; return k, ok }

	claims, err := sigv4.Verify(token, find, now)

	v.mu.Lock()
	defer v.mu.Unlock()
	verdict := Verdict{
		Time:        now,
		User:        user,
		TokenLength: len(token),
		Fingerprint: Fingerprint(token),
	}
	switch {
	case v.throttled():
		verdict.Reason = Throttled
	case err != nil:
		verdict.Reason, verdict.Claims = reason(err), claims
	case hasEnded(keys[claims.AccessKeyID], now):
		verdict.Reason, verdict.Claims = KeyExpired, claims
	default:
		verdict.Reason, verdict.Claims = v.judge(user, claims), claims
	}
	verdict.OK = verdict.Reason == OK
	v.verdicts = append(v.verdicts, verdict)
	return verdict.OK, v.delay
}

// hasEnded reports whether k has expired.
func hasEnded(k sigv4.Key, now time.Time) bool {
	return !k.Expires.IsZero() && !now.Before(k.Expires)
}

// judge compares the claims of a token with a valid signature with the expected ones. v.mu
// is held.
func (v *verifier) judge(user string, claims sigv4.Claims) Reason {
	want := v.wanted(user)
	switch {
	case v.expired[claims.AccessKeyID]:
		return KeyExpired
	case claims.User != want.User:
		return WrongUser
	case claims.Host != want.Host:
		return WrongHost
	case claims.Path != want.Path:
		return WrongPath
	case claims.Action != want.Action:
		return WrongAction
	case claims.Service != want.Service:
		return WrongService
	case claims.Region != want.Region:
		return WrongRegion
	case claims.Expires > want.Expires:
		return Lifetime
	case v.allowed != nil && !v.allowed(claims.AccessKeyID, user):
		return NotAllowed
	default:
		return OK
	}
}

// wanted returns the claims that a token of user must have, except those that depend on the
// key. Expires may be less. v.mu is held.
func (v *verifier) wanted(user string) sigv4.Claims {
	want := sigv4.Claims{Host: v.host, Path: "/", Region: v.region, Service: v.service}
	switch {
	case v.service != ServiceDSQL:
		want.User, want.Action, want.Expires = user, "connect", maxLifetimeRDS
	case user == AdminUser:
		want.Action, want.Expires = "DbConnectAdmin", maxLifetimeDSQL
	default:
		want.Action, want.Expires = "DbConnect", maxLifetimeDSQL
	}
	return want
}

// throttled counts a login, and reports whether it exceeds the limit within a second of
// real time. v.mu is held.
func (v *verifier) throttled() bool {
	if v.limit <= 0 {
		return false
	}
	now := time.Now()
	v.recent = slices.DeleteFunc(v.recent, func(t time.Time) bool { return now.Sub(t) >= time.Second })
	if len(v.recent) >= v.limit {
		return true
	}
	v.recent = append(v.recent, now)
	return false
}

// SetDelay delays the answers to the server by d. Verdicts are recorded at once.
func (c *Cluster) SetDelay(d time.Duration) {
	c.verifier.mu.Lock()
	defer c.verifier.mu.Unlock()
	c.verifier.delay = d
}

// SetLoginLimit limits logins with tokens to n within any second of real time, valid or
// not. The others are rejected as Throttled. 0 is no limit.
func (c *Cluster) SetLoginLimit(n int) {
	c.verifier.mu.Lock()
	defer c.verifier.mu.Unlock()
	c.verifier.limit, c.verifier.recent = n, nil
}

// SetClock sets the clock of the verifier and of its verdicts; nil: the real time.
func (c *Cluster) SetClock(clock func() time.Time) {
	c.verifier.mu.Lock()
	defer c.verifier.mu.Unlock()
	c.verifier.clock = clock
}

// SetPolicy makes the verifier reject valid tokens unless allowed returns true for the
// owner of the access key and the user; nil: all are allowed. allowed is called under a
// lock and must not call methods of the Cluster.
func (c *Cluster) SetPolicy(allowed func(accessKeyID, user string) bool) {
	c.verifier.mu.Lock()
	defer c.verifier.mu.Unlock()
	c.verifier.allowed = allowed
}

// AddKey adds k, or replaces the key with the same access key ID, even if it has expired.
func (c *Cluster) AddKey(k sigv4.Key) { c.verifier.addKey(k) }

// ExpireKey rejects tokens of this access key from now on, independent of when they were
// signed, as when a session ends or is revoked.
func (c *Cluster) ExpireKey(accessKeyID string) {
	c.verifier.mu.Lock()
	defer c.verifier.mu.Unlock()
	if c.verifier.expired == nil {
		c.verifier.expired = make(map[string]bool)
	}
	c.verifier.expired[accessKeyID] = true
}

// Verdicts returns the verdicts since Start or ResetVerdicts, oldest first.
func (c *Cluster) Verdicts() []Verdict {
	c.verifier.mu.Lock()
	defer c.verifier.mu.Unlock()
	return slices.Clone(c.verifier.verdicts)
}

// ResetVerdicts forgets the verdicts made so far.
func (c *Cluster) ResetVerdicts() {
	c.verifier.mu.Lock()
	defer c.verifier.mu.Unlock()
	c.verifier.verdicts = nil
}
