package fakeaws

import (
	"path"
	"slices"
	"strings"
)

// Policy is one statement of a policy. * and ? are wildcards, as in IAM.
type Policy struct {
	Name      string   // zero: "policy"
	Deny      bool     // the effect is Deny
	Actions   []string // such as rds:DescribeDBClusters
	Resources []string // ARNs; nil: all
	// Kind is the type of the policy. Zero: identity-based.
	Kind PolicyKind
	// Condition is a context key that no request has, so that the statement never applies.
	// Zero: the statement has no condition.
	Condition string
}

// PolicyKind is the type of a policy.
type PolicyKind int

// The kinds.
const (
	Attached     PolicyKind = iota
	Boundary                // a permissions boundary: the maximum of permissions
	Organization            // a service control policy; all that it does not deny is allowed
)

// Everyone is a principal: all users and roles of all accounts.
const Everyone = "*"

// owner returns the principal that has the policies: for a session, its role.
type owner struct{ account, kind, name string }

func ownerOf(principal string) owner {
	if role := roleOf(principal); role != "" {
		principal = role
	}
	parsed, _ := parseARN(principal)
	kind, _, _ := strings.Cut(parsed.resource, "/")
	return owner{parsed.account, kind, path.Base(parsed.resource)}
}

// Attach attaches a policy to principal, which is Everyone or the ARN of a user, a role or
// a session. Without policies all is denied, except what a Role allows in STS.
func (a *AWS) Attach(principal string, p Policy) {
	if p.Name == "" {
		p.Name = "policy"
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.policies == nil {
		a.policies = make(map[owner][]Policy)
		a.entities = make(map[string]bool)
	}
	a.policies[ownerOf(principal)] = append(a.policies[ownerOf(principal)], p)
	if parsed, _ := parseARN(principal); parsed.service == "iam" {
		a.entities[principal] = true
	}
}

// Allow attaches a policy that allows actions on everything.
func (a *AWS) Allow(principal string, actions ...string) {
	a.Attach(principal, Policy{Actions: actions})
}

// Detach removes all policies of principal.
func (a *AWS) Detach(principal string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.policies, ownerOf(principal))
}

// detach removes the policies of principal with this name.
func (a *AWS) detach(principal, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.policies[ownerOf(principal)] = slices.DeleteFunc(a.policies[ownerOf(principal)], func(p Policy) bool { return p.Name == name })
}

// Permits reports whether the owner of an access key may do action on the resource with
// this ARN. A database uses it to reject logins.
func (a *AWS) Permits(accessKeyID, action, resource string) bool {
	c, ok := a.credential(accessKeyID)
	return ok && a.judge(c.arn, action, resource).decision == allowed
}

// The decisions of IAM, in its words.
const (
	allowed      = "allowed"
	explicitDeny = "explicitDeny"
	implicitDeny = "implicitDeny"
)

// judgement is the result of all policies, and its reasons.
type judgement struct {
	decision     string
	by           []Policy // the deciding policies; none for implicitDeny
	missing      []string // context keys
	boundary     *bool    // it allows the action; nil: there is none
	organization *bool    // likewise
}

// judge evaluates the policies of principal.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
func (a *AWS) judge(principal, action, resource string) judgement {
	j := judgement{decision: implicitDeny}
	var allow, deny []Policy
	for _, p := range a.policiesOf(principal) {
		applies := p.applies(action, resource)
		if applies && p.Condition != "" {
			j.missing = append(j.missing, p.Condition)
			applies = false
		}
		switch {
		case p.Kind == Organization:
			if j.organization == nil {
				j.organization = new(bool)
				*j.organization = true
			}
			*j.organization = *j.organization && (!applies || !p.Deny)
		case p.Kind == Boundary:
			if j.boundary == nil {
				j.boundary = new(bool)
			}
			*j.boundary = *j.boundary || applies && !p.Deny
		case applies && p.Deny:
			deny = append(deny, p)
		case applies:
			allow = append(allow, p)
		}
	}
	outside := j.boundary != nil && !*j.boundary
	switch {
	case len(deny) > 0:
		j.decision, j.by = explicitDeny, deny
	case j.organization != nil && !*j.organization:
		j.decision = explicitDeny
	case len(allow) > 0 && !outside:
		j.decision, j.by = allowed, allow
	}
	return j
}

func (a *AWS) policiesOf(principal string) []Policy {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Concat(a.policies[ownerOf(principal)], a.policies[ownerOf(Everyone)])
}

// applies reports whether p matches the action and the resource.
func (p Policy) applies(action, resource string) bool {
	return matchesAny(p.Actions, action) && (p.Resources == nil || matchesAny(p.Resources, resource))
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, name) })
}

// matches implements IAM's StringLike: * is any number of characters, and ? is one.
func matches(pattern, name string) bool {
	first, rest, found := strings.Cut(pattern, "*")
	if len(name) < len(first) {
		return false
	}
	for i := range first {
		if first[i] != '?' && first[i] != name[i] {
			return false
		}
	}
	name = name[len(first):]
	if !found {
		return name == ""
	}
	for i := range len(name) + 1 {
		if matches(rest, name[i:]) {
			return true
		}
	}
	return false
}

// notAuthorized returns the error for an action that the policies do not allow, or nil.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
func (a *AWS) notAuthorized(principal, action, resource string) *refusal {
	j := a.judge(principal, action, resource)
	why := "because no identity-based policy allows the " + action + " action"
	switch {
	case j.decision == allowed:
		return nil
	case j.organization != nil && !*j.organization:
		why = "with an explicit deny in a service control policy"
	case j.decision == explicitDeny:
		why = "with an explicit deny in an identity-based policy"
	case j.boundary != nil && !*j.boundary:
		why = "because no permissions boundary allows the " + action + " action"
	}
	return &refusal{403, "AccessDenied", "User: " + principal + " is not authorized to perform: " + action +
		" on resource: " + resource + " " + why}
}
