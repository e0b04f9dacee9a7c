package rdsapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/iamproxy/iamproxy/auth"
)

// Decision is what the policies say to a request.
type Decision struct {
	Allowed bool
	// Denied reports whether a statement denies it, in contrast to none that allows it.
	Denied bool
	// By says what decided, in a few words; empty if no policy allows it.
	By string
	// Missing are the condition keys that policies go by and the question did not have.
	Missing []string
}

// The actions that MayConnect takes.
const (
	simulate = "iam:SimulatePrincipalPolicy"
	getRole  = "iam:GetRole"
)

// MayConnect asks IAM whether caller, the ARN of a user or of a role's session, may log in
// to resource as user. Policies with conditions are judged without their context, and those
// that came with the session are not judged at all. Without an account in resource, it is
// the caller's.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
func (c *Client) MayConnect(ctx context.Context, caller string, resource auth.Resource, user string) (Decision, error) {
	who, err := parsePrincipal(caller)
	if err != nil {
		return Decision{}, err
	}
	resource.Account = cmp.Or(resource.Account, who.AccountID)
	if resource.Account != who.AccountID {
		return Decision{By: fmt.Sprintf("another account: the caller is of %s, the database of %s", who.AccountID, resource.Account)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s := simulation{iam.NewFromConfig(c.config(c.Config.Region)), resource.Action(user), resource.ARN(user)}
	result, err := s.of(ctx, who)
	if err != nil {
		return Decision{}, err
	}
	return decide(result), nil
}

// principal is the ARN of who has policies: a user, or a role, which a session's does not
// tell the path of.
type principal struct {
	arn.ARN
	role string // its name, if the path may be missing
}

// parsePrincipal finds out who has the caller's policies.
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
		return principal{}, &failure{"IAM does not judge the account's root user; use a role or a user", ErrNotPermitted}
	case "sts:federated-user":
		return principal{}, &failure{"IAM does not judge federated users; use a role or a user", ErrNotPermitted}
	default:
		return principal{}, fmt.Errorf("%q is not the ARN of an IAM user or role", caller)
	}
}

// PolicyHolder is the name of the user or of the role whose policies a caller goes by;
// both are empty where it has none of its own.
func PolicyHolder(caller string) (user, role string) {
	who, err := parsePrincipal(caller)
	if err != nil {
		return "", ""
	}
	kind, path, _ := strings.Cut(who.Resource, "/")
	name := path[strings.LastIndexByte(path, '/')+1:]
	if kind == "user" {
		return name, ""
	}
	return "", name
}

// simulation is one question to IAM.
type simulation struct {
	iam              *iam.Client
	action, resource string
}

// of asks about a role without its path first: most have none, and iam:GetRole is one more
// thing to be allowed.
func (s simulation) of(ctx context.Context, who principal) (types.EvaluationResult, error) {
	result, err := s.ask(ctx, who.String())
	if who.role == "" || !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNotPermitted) {
		return result, err
	}
	answer, pathErr := s.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &who.role})
	switch {
	case errors.Is(err, ErrNotPermitted) && (pathErr != nil || aws.ToString(answer.Role.Arn) == who.String()):
		return result, err
	case isNotFound(pathErr):
		return result, err
	case pathErr != nil:
		return result, explain(getRole, pathErr)
	}
	return s.ask(ctx, aws.ToString(answer.Role.Arn))
}

func (s simulation) ask(ctx context.Context, who string) (types.EvaluationResult, error) {
	answer, err := s.iam.SimulatePrincipalPolicy(ctx, &iam.SimulatePrincipalPolicyInput{
		PolicySourceArn: &who,
		ActionNames:     []string{s.action},
		ResourceArns:    []string{s.resource},
	})
	switch {
	case isNotFound(err):
		return types.EvaluationResult{}, &failure{"IAM knows no " + who, ErrNotFound}
	case err != nil:
		return types.EvaluationResult{}, explain(simulate, err)
	case len(answer.EvaluationResults) == 0:
		return types.EvaluationResult{}, &failure{"IAM gave no answer about " + s.action, nil}
	}
	return answer.EvaluationResults[0], nil
}

// decide is IAM's answer in short. What it says of the one resource is more precise than
// what it says at the top.
func decide(result types.EvaluationResult) Decision {
	decision, statements := result.EvalDecision, result.MatchedStatements
	missing := append([]string(nil), result.MissingContextValues...)
	boundary := result.PermissionsBoundaryDecisionDetail
	if len(result.ResourceSpecificResults) > 0 {
		specific := result.ResourceSpecificResults[0]
		decision, statements = specific.EvalResourceDecision, specific.MatchedStatements
		missing = append(missing, specific.MissingContextValues...)
		if specific.PermissionsBoundaryDecisionDetail != nil {
			boundary = specific.PermissionsBoundaryDecisionDetail
		}
	}
	slices.Sort(missing)
	d := Decision{
		Allowed: decision == types.PolicyEvaluationDecisionTypeAllowed,
		Denied:  decision == types.PolicyEvaluationDecisionTypeExplicitDeny,
		Missing: slices.Compact(missing),
	}
	organization := result.OrganizationsDecisionDetail
	switch {
	case !d.Allowed && organization != nil && !organization.AllowedByOrganizations:
		d.By = "a service control policy of the organization"
	case !d.Allowed && boundary != nil && !boundary.AllowedByPermissionsBoundary:
		d.By = "the permissions boundary"
	case (d.Allowed || d.Denied) && len(statements) > 0:
		d.By = "policy " + aws.ToString(statements[0].SourcePolicyId)
	}
	return d
}
