package rdsapi

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/awsapi"
)

// Decision is the result of evaluating policies for a request.
type Decision struct {
	Allowed bool
	// Denied reports whether there is an explicit deny. If neither Allowed nor Denied is
	// set, the deny is implicit.
	Denied bool
	// By describes what decided. It is empty if no policy allows the request.
	By string
	// Missing lists the condition keys of policies that the simulation had no values for.
	Missing []string
}

// The permissions that MayConnect needs.
const (
	simulateAction = "iam:SimulatePrincipalPolicy"
	getRoleAction  = "iam:GetRole"
)

// MayConnect simulates whether policies allow caller to log in to resource as user. The caller
// is the ARN of a user or of a role's session. The simulation has no values for condition
// keys, and does not evaluate session policies. If resource has no account, it is the
// caller's.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
func (c *Client) MayConnect(ctx context.Context, caller string, resource auth.Resource, user string) (Decision, error) {
	p, err := parsePrincipal(caller)
	if err != nil {
		return Decision{}, err
	}
	resource.Account = cmp.Or(resource.Account, p.AccountID)
	if resource.Account != p.AccountID {
		return Decision{By: fmt.Sprintf("another account: the caller is in %s, the database in %s", p.AccountID, resource.Account)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s := simulation{awsapi.New(c.config(c.Config.Region), awsapi.IAM), resource.Action(user), resource.ARN(user)}
	result, err := s.evaluate(ctx, p)
	if err != nil {
		return Decision{}, err
	}
	return decide(result), nil
}

// principal is the ARN of the user or role that the caller's policies are attached to.
type principal struct {
	arn.ARN
	// role is the name of the role if the ARN may lack its path: the ARN of a session
	// does not contain it.
	role string
}

// parsePrincipal returns the principal of caller.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-arns
func parsePrincipal(caller string) (principal, error) {
	parsed, err := arn.Parse(caller)
	if err != nil {
		return principal{}, fmt.Errorf("%q is not the ARN of an IAM user or role", caller)
	}
	kind, rest, _ := strings.Cut(parsed.Resource, "/")
	switch parsed.Service + ":" + kind {
	case "iam:user", "iam:role":
		return principal{ARN: parsed}, nil
	case "sts:assumed-role":
		name, _, _ := strings.Cut(rest, "/")
		parsed.Service, parsed.Resource = "iam", "role/"+name
		return principal{parsed, name}, nil
	case "iam:root":
		return principal{}, &awsapi.Error{Text: "IAM cannot simulate policies of the account's root user; use a role or a user", Kind: ErrNotPermitted}
	case "sts:federated-user":
		return principal{}, &awsapi.Error{Text: "IAM cannot simulate policies of federated users; use a role or a user", Kind: ErrNotPermitted}
	default:
		return principal{}, fmt.Errorf("%q is not the ARN of an IAM user or role", caller)
	}
}

// PolicyHolder returns the name of the user or role that the caller's policies are attached
// to. Both are empty for other callers.
func PolicyHolder(caller string) (user, role string) {
	p, err := parsePrincipal(caller)
	if err != nil {
		return "", ""
	}
	kind, path, _ := strings.Cut(p.Resource, "/")
	name := path[strings.LastIndexByte(path, '/')+1:]
	if kind == "user" {
		return name, ""
	}
	return "", name
}

// simulation evaluates the policies for one action on one resource.
type simulation struct {
	iam              *awsapi.Client
	action, resource string
}

// evaluate simulates a request of p. It first assumes that a role has no path, since most have
// none and iam:GetRole is a further permission.
func (s simulation) evaluate(ctx context.Context, p principal) (evaluation, error) {
	result, err := s.simulate(ctx, p.String())
	if p.role == "" || !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNotPermitted) {
		return result, err
	}
	roleARN, pathErr := s.roleARN(ctx, p.role)
	switch {
	case errors.Is(err, ErrNotPermitted) && (pathErr != nil || roleARN == p.String()):
		return result, err
	case isNotFound(pathErr):
		return result, err
	case pathErr != nil:
		return result, awsapi.Explain(getRoleAction, pathErr)
	}
	return s.simulate(ctx, roleARN)
}

// roleARN returns the ARN of a role, with its path.
func (s simulation) roleARN(ctx context.Context, name string) (string, error) {
	var response struct {
		XMLName xml.Name `xml:"GetRoleResponse"`
		ARN     string   `xml:"GetRoleResult>Role>Arn"`
	}
	err := s.iam.Call(ctx, "GetRole", map[string]string{"RoleName": name}, &response)
	return response.ARN, err
}

// evaluation is the result of a simulation for one action, with the elements that iamproxy
// reads.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_EvaluationResult.html
type evaluation struct {
	Decision              string   `xml:"EvalDecision"`
	Policies              []string `xml:"MatchedStatements>member>SourcePolicyId"`
	Missing               []string `xml:"MissingContextValues>member"`
	AllowedByOrganization *bool    `xml:"OrganizationsDecisionDetail>AllowedByOrganizations"`
	AllowedByBoundary     *bool    `xml:"PermissionsBoundaryDecisionDetail>AllowedByPermissionsBoundary"`
	Resources             []struct {
		Decision          string   `xml:"EvalResourceDecision"`
		Policies          []string `xml:"MatchedStatements>member>SourcePolicyId"`
		Missing           []string `xml:"MissingContextValues>member"`
		AllowedByBoundary *bool    `xml:"PermissionsBoundaryDecisionDetail>AllowedByPermissionsBoundary"`
	} `xml:"ResourceSpecificResults>member"`
}

func (s simulation) simulate(ctx context.Context, principalARN string) (evaluation, error) {
	var response struct {
		XMLName xml.Name     `xml:"SimulatePrincipalPolicyResponse"`
		Results []evaluation `xml:"SimulatePrincipalPolicyResult>EvaluationResults>member"`
	}
	err := s.iam.Call(ctx, "SimulatePrincipalPolicy", map[string]string{
		"PolicySourceArn":       principalARN,
		"ActionNames.member.1":  s.action,
		"ResourceArns.member.1": s.resource,
	}, &response)
	switch {
	case isNotFound(err):
		return evaluation{}, &awsapi.Error{Text: "IAM has no " + principalARN, Kind: ErrNotFound}
	case err != nil:
		return evaluation{}, awsapi.Explain(simulateAction, err)
	case len(response.Results) == 0:
		return evaluation{}, &awsapi.Error{Text: "IAM returned no result for " + s.action}
	}
	return response.Results[0], nil
}

// decide returns the Decision of a result. The part for the resource is more precise than the
// rest.
func decide(result evaluation) Decision {
	decision, policies, boundary := result.Decision, result.Policies, result.AllowedByBoundary
	missing := slices.Clone(result.Missing)
	if len(result.Resources) > 0 {
		specific := result.Resources[0]
		decision, policies = specific.Decision, specific.Policies
		missing = append(missing, specific.Missing...)
		if specific.AllowedByBoundary != nil {
			boundary = specific.AllowedByBoundary
		}
	}
	slices.Sort(missing)
	// https://docs.aws.amazon.com/IAM/latest/APIReference/API_ResourceSpecificResult.html
	d := Decision{Allowed: decision == "allowed", Denied: decision == "explicitDeny", Missing: slices.Compact(missing)}
	organization := result.AllowedByOrganization
	switch {
	case !d.Allowed && organization != nil && !*organization:
		d.By = "a service control policy of the organization"
	case !d.Allowed && boundary != nil && !*boundary:
		d.By = "the permissions boundary"
	case (d.Allowed || d.Denied) && len(policies) > 0:
		d.By = "policy " + policies[0]
	}
	return d
}
