package fakeaws

import (
	"slices"
	"strings"
)

// Role is an IAM role.
type Role struct {
	ARN string // arn:aws:iam::111122223333:role/name
	// Trusts are the ARNs of identities that may assume the role. A session matches by its
	// own ARN, and by the ARN of its role without a path:
	// arn:aws:iam::111122223333:role/name.
	Trusts []string
	// ExternalID is the external id that is required. Empty: none.
	ExternalID string
	// WebIdentity is the token that is accepted instead of keys. Empty: none.
	WebIdentity string
}

// role is a Role with its former web identity tokens.
type role struct {
	Role
	expired map[string]bool
}

// AllowRole adds or replaces a role. A former WebIdentity is rejected as expired from then
// on.
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

// trusts reports whether caller may assume the role.
func (a *AWS) trusts(roleARN, caller, externalID string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.roles[roleARN]
	if r == nil || r.ExternalID != "" && r.ExternalID != externalID {
		return false
	}
	return slices.Contains(r.Trusts, caller) || slices.Contains(r.Trusts, roleOf(caller))
}

// webIdentity is the result of presenting a token for a role.
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

// roleOf returns the ARN of a session's role, or "" for any other ARN.
func roleOf(session string) string {
	parsed, _ := parseARN(session)
	parts := strings.Split(parsed.resource, "/")
	if len(parts) != 3 || parts[0] != "assumed-role" {
		return ""
	}
	return "arn:" + parsed.partition + ":iam::" + parsed.account + ":role/" + parts[1]
}
