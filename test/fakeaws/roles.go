package fakeaws

import (
	"slices"
	"strings"
)

// Role is what STS lets others assume.
type Role struct {
	ARN string // arn:aws:iam::111122223333:role/name
	// Trusts are the ARNs of who may assume it with keys of their own. One who has
	// assumed a role is known by the session's ARN, and by the role's, without its
	// path: arn:aws:iam::111122223333:role/name.
	Trusts []string
	// ExternalID is what they must send along. Empty: anything or nothing.
	ExternalID string
	// WebIdentity is the token that serves instead of keys. Empty: none does.
	WebIdentity string
}

// role is a Role, and the web identity tokens that it took before.
type role struct {
	Role
	expired map[string]bool
}

// AllowRole makes a role known, or changes it. A WebIdentity that it had before is
// said to be expired from then on.
func (a *AWS) AllowRole(r Role) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.roles == nil {
		a.roles = make(map[string]*role)
	}
	next := &role{Role: r, expired: make(map[string]bool)}
	next.Trusts = slices.Clone(r.Trusts)
	if before := a.roles[r.ARN]; before != nil {
		next.expired = before.expired
		next.expired[before.WebIdentity] = true
		delete(next.expired, r.WebIdentity)
	}
	a.roles[r.ARN] = next
}

// trusts tells whether the role is one that caller may assume.
func (a *AWS) trusts(roleARN, caller, externalID string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.roles[roleARN]
	if r == nil || r.ExternalID != "" && r.ExternalID != externalID {
		return false
	}
	return slices.Contains(r.Trusts, caller) || slices.Contains(r.Trusts, roleOf(caller))
}

// webIdentity is what becomes of a token that is shown for a role.
type webIdentity int

const (
	webIdentityGood webIdentity = iota
	webIdentityWrong
	webIdentityExpired
	webIdentityDenied // no role, or not one for web identities
)

func (a *AWS) judgeWebIdentity(roleARN, token string) webIdentity {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.roles[roleARN]
	switch {
	case r == nil:
		return webIdentityDenied
	case token != "" && r.expired[token]:
		return webIdentityExpired
	case r.WebIdentity == "":
		return webIdentityDenied
	case token != r.WebIdentity:
		return webIdentityWrong
	}
	return webIdentityGood
}

// roleOf is the ARN of the role that a session is of; empty for any other ARN.
func roleOf(session string) string {
	parsed, _ := parseARN(session)
	parts := strings.Split(parsed.resource, "/")
	if len(parts) != 3 || parts[0] != "assumed-role" {
		return ""
	}
	return "arn:" + parsed.partition + ":iam::" + parsed.account + ":role/" + parts[1]
}
