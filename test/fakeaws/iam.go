package fakeaws

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const iamNamespace = "https://iam.amazonaws.com/doc/2010-05-08/"

// iam serves three actions of the IAM API, which has one region.
func (a *AWS) iam(w http.ResponseWriter, r *http.Request, path string) {
	a.query(w, r, path, iamNamespace, a.askIAM)
}

func (a *AWS) askIAM(r *http.Request, body []byte, form url.Values) (any, *refusal) {
	c, refused := a.callerOf(r, body, "iam")
	if refused != nil {
		return nil, refused
	}
	switch action := form.Get("Action"); action {
	case "SimulatePrincipalPolicy":
		result, refused := a.simulate(c, form)
		return response{iamNamespace, action, result}, refused
	case "GetRole":
		result, refused := a.getRole(c, form.Get("RoleName"))
		return response{iamNamespace, action, result}, refused
	case "PutRolePolicy":
		return response{iamNamespace, action, nil}, a.putRolePolicy(c, form)
	default:
		return nil, invalidAction(form)
	}
}

// putRolePolicy attaches an inline policy to a role, in place of one with the same name.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutRolePolicy.html
func (a *AWS) putRolePolicy(c caller, form url.Values) *refusal {
	role := a.roleNamed(c, form.Get("RoleName"))
	if refused := a.notAuthorized(c.arn, "iam:PutRolePolicy", role); refused != nil {
		return refused
	}
	if !a.exists(role) {
		return noSuchRole(form.Get("RoleName"))
	}
	var document struct {
		Statement []struct {
			Effect           string
			Action, Resource oneOrMany
		}
	}
	if err := json.Unmarshal([]byte(form.Get("PolicyDocument")), &document); err != nil || len(document.Statement) == 0 {
		return &refusal{400, "MalformedPolicyDocument", "Syntax errors in policy."}
	}
	name := form.Get("PolicyName")
	a.detach(role, name)
	for _, s := range document.Statement {
		a.Attach(role, Policy{Name: name, Deny: s.Effect == "Deny", Actions: s.Action, Resources: s.Resource})
	}
	return nil
}

// oneOrMany is a JSON string, or an array of strings.
type oneOrMany []string

// UnmarshalJSON implements json.Unmarshaler.
func (o *oneOrMany) UnmarshalJSON(text []byte) error {
	*o = make([]string, 1)
	if json.Unmarshal(text, &(*o)[0]) == nil {
		return nil
	}
	return json.Unmarshal(text, (*[]string)(o))
}

// simulate evaluates the policies of one principal.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
func (a *AWS) simulate(c caller, form url.Values) (any, *refusal) {
	who := form.Get("PolicySourceArn")
	if refused := a.notAuthorized(c.arn, "iam:SimulatePrincipalPolicy", who); refused != nil {
		return nil, refused
	}
	parsed, _ := parseARN(who)
	kind, _, _ := strings.Cut(parsed.resource, "/")
	if parsed.service != "iam" || kind != "user" && kind != "role" && kind != "group" {
		return nil, &refusal{400, "InvalidInput", "Invalid Entity Arn: " + who + " does not clearly define entity type and name."}
	}
	if parsed.account != c.account || !a.exists(who) {
		return nil, &refusal{404, "NoSuchEntity", "The requested ARN " + who + " does not exist."}
	}
	var result simulationResult
	for _, action := range members(form, "ActionNames") {
		for _, resource := range members(form, "ResourceArns") {
			result.Results = append(result.Results, newEvaluation(action, resource, a.judge(who, action, resource)))
		}
	}
	return result, nil
}

// members returns the values of a list parameter.
func members(form url.Values, name string) []string {
	var values []string
	for i := 1; form.Has(fmt.Sprintf("%s.member.%d", name, i)); i++ {
		values = append(values, form.Get(fmt.Sprintf("%s.member.%d", name, i)))
	}
	return values
}

// exists reports whether there is a user or role with this ARN, including its path.
func (a *AWS) exists(principal string) bool { return slices.Contains(a.principals(), principal) }

// principals returns the ARNs of all users and roles: of keys, of AllowRole and of Attach.
// The role of a session has no path if only the session is known.
func (a *AWS) principals() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for name := range a.roles {
		all = append(all, name)
	}
	for name := range a.entities {
		all = append(all, name)
	}
	known := make(map[owner]bool)
	for _, name := range all {
		known[ownerOf(name)] = true
	}
	for _, c := range a.keys {
		role := roleOf(c.arn)
		switch {
		case role == "":
			all = append(all, c.arn)
		case !known[ownerOf(role)]:
			all = append(all, role)
		}
	}
	return all
}

// roleNamed returns the ARN of the role of c's account with this name, with its path. The
// role need not exist.
func (a *AWS) roleNamed(c caller, name string) string {
	all := a.principals()
	wanted := owner{c.account, "role", name}
	if i := slices.IndexFunc(all, func(principal string) bool { return ownerOf(principal) == wanted }); i >= 0 {
		return all[i]
	}
	return "arn:aws:iam::" + c.account + ":role/" + name
}

func noSuchRole(name string) *refusal {
	return &refusal{404, "NoSuchEntity", "The role with name " + name + " cannot be found."}
}

func (a *AWS) getRole(c caller, name string) (any, *refusal) {
	found := a.roleNamed(c, name)
	if refused := a.notAuthorized(c.arn, "iam:GetRole", found); refused != nil {
		return nil, refused
	}
	if !a.exists(found) {
		return nil, noSuchRole(name)
	}
	parsed, _ := parseARN(found)
	rolePath := strings.TrimSuffix(strings.TrimPrefix(parsed.resource, "role"), name)
	return getRoleResult{iamRole{found, rolePath, name, "AROA0123456789ABCDEFG", time.Unix(0, 0).UTC().Format(time.RFC3339)}}, nil
}

type getRoleResult struct {
	Role iamRole
}

type iamRole struct {
	Arn        string
	Path       string
	RoleName   string
	RoleID     string `xml:"RoleId"`
	CreateDate string
}

type simulationResult struct {
	IsTruncated bool
	Results     []evaluation `xml:"EvaluationResults>member"`
}

type evaluation struct {
	EvalActionName                    string
	EvalResourceName                  string
	EvalDecision                      string
	MatchedStatements                 []statement           `xml:"MatchedStatements>member"`
	MissingContextValues              []string              `xml:"MissingContextValues>member"`
	OrganizationsDecisionDetail       *organizationsDetail  `xml:",omitempty"`
	PermissionsBoundaryDecisionDetail *boundaryDetail       `xml:",omitempty"`
	ResourceSpecificResults           []resourceSpecificXML `xml:"ResourceSpecificResults>member"`
}

type statement struct {
	SourcePolicyID   string `xml:"SourcePolicyId"`
	SourcePolicyType string
}

type organizationsDetail struct{ AllowedByOrganizations bool }

type boundaryDetail struct{ AllowedByPermissionsBoundary bool }

type resourceSpecificXML struct {
	EvalResourceName                  string
	EvalResourceDecision              string
	MatchedStatements                 []statement     `xml:"MatchedStatements>member"`
	MissingContextValues              []string        `xml:"MissingContextValues>member"`
	PermissionsBoundaryDecisionDetail *boundaryDetail `xml:",omitempty"`
}

func newEvaluation(action, resource string, j judgement) evaluation {
	e := evaluation{EvalActionName: action, EvalResourceName: resource, EvalDecision: j.decision, MissingContextValues: j.missing}
	for _, p := range j.by {
		e.MatchedStatements = append(e.MatchedStatements, statement{p.Name, "IAM Policy"})
	}
	if j.organization != nil {
		e.OrganizationsDecisionDetail = &organizationsDetail{*j.organization}
	}
	if j.boundary != nil {
		e.PermissionsBoundaryDecisionDetail = &boundaryDetail{*j.boundary}
	}
	e.ResourceSpecificResults = []resourceSpecificXML{{resource, j.decision, e.MatchedStatements, j.missing, e.PermissionsBoundaryDecisionDetail}}
	return e
}
