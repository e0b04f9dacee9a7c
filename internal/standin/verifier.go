//go:build unix

package standin

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/iamproxy/iamproxy/internal/sigv4"
)

// What surrounds the user's name in the DN that PostgreSQL binds with.
const (
	dnPrefix = "cn="
	dnSuffix = ",ou=" + RDSRole
)

// maxLifetime is the longest X-Amz-Expires that RDS takes.
const maxLifetime = 15 * time.Minute

// verifier decides about tokens and remembers what it decided. Its zero value
// knows no key and refuses everything.
type verifier struct {
	mu       sync.Mutex
	host     string // host:port
	region   string
	keys     map[string]sigv4.Key // by access key ID; never changed in place
	expired  map[string]bool      // by access key ID
	clock    func() time.Time     // nil: time.Now
	delay    time.Duration
	limit    int         // logins a second; 0: none
	recent   []time.Time // logins of the last second
	verdicts []Verdict
}

// expect sets what tokens must be signed for, and adds keys.
func (v *verifier) expect(host, region string, keys []sigv4.Key) {
	v.mu.Lock()
	v.host, v.region = host, region
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

// bind is what the LDAP server asks: may the owner of dn in with this password?
// It takes as long as SetDelay says, unless ctx ends first.
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

// verify decides about one login and records the verdict.
func (v *verifier) verify(user, token string) (ok bool, delay time.Duration) {
	v.mu.Lock()
	clock, keys := v.clock, v.keys
	v.mu.Unlock()
	if clock == nil {
		clock = time.Now
	}
	now := clock() // not under the lock: it is the caller's
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
	default:
		verdict.Reason, verdict.Claims = v.judge(user, claims), claims
	}
	verdict.OK = verdict.Reason == OK
	v.verdicts = append(v.verdicts, verdict)
	return verdict.OK, v.delay
}

// judge compares the claims of a token with a good signature with what they
// must be. v.mu is held.
func (v *verifier) judge(user string, claims sigv4.Claims) Reason {
	switch {
	case v.expired[claims.AccessKeyID]:
		return KeyExpired
	case claims.User != user:
		return WrongUser
	case claims.Host != v.host:
		return WrongHost
	case claims.Path != "/":
		return WrongPath
	case claims.Action != "connect":
		return WrongAction
	case claims.Service != "rds-db":
		return WrongService
	case claims.Region != v.region:
		return WrongRegion
	case claims.Expires > maxLifetime:
		return Lifetime
	default:
		return OK
	}
}

// throttled counts a login, unless it is one too many within a second of real
// time. v.mu is held.
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

// SetDelay makes every verdict reach the server d after it was made. It is on
// record at once.
func (c *Cluster) SetDelay(d time.Duration) {
	c.verifier.mu.Lock()
	defer c.verifier.mu.Unlock()
	c.verifier.delay = d
}

// SetLoginLimit lets n logins with tokens in within any one second of real
// time, whether good or bad, and refuses the others as Throttled. 0 is no limit.
func (c *Cluster) SetLoginLimit(n int) {
	c.verifier.mu.Lock()
	defer c.verifier.mu.Unlock()
	c.verifier.limit, c.verifier.recent = n, nil
}

// SetClock makes the verifier take the time from clock; nil: the real time.
// Verdicts are stamped with it.
func (c *Cluster) SetClock(clock func() time.Time) {
	c.verifier.mu.Lock()
	defer c.verifier.mu.Unlock()
	c.verifier.clock = clock
}

// AddKey lets k log in. It replaces a key with the same access key ID, and
// revives it if it had been expired.
func (c *Cluster) AddKey(k sigv4.Key) { c.verifier.addKey(k) }

// ExpireKey refuses tokens signed with this access key from now on, whenever
// they were signed, as when a session ends or is revoked.
func (c *Cluster) ExpireKey(accessKeyID string) {
	c.verifier.mu.Lock()
	defer c.verifier.mu.Unlock()
	if c.verifier.expired == nil {
		c.verifier.expired = make(map[string]bool)
	}
	c.verifier.expired[accessKeyID] = true
}

// Verdicts are those made since Start or ResetVerdicts, oldest first.
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
