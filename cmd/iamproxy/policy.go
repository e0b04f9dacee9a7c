package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/endpoint"
	"github.com/iamproxy/iamproxy/internal/iampolicy"
	"github.com/iamproxy/iamproxy/internal/text"
)

type policyCommand struct {
	Endpoints  []string `arg:"" name:"endpoint" form:"endpoint" help:"The databases, by the names that AWS assigned."`
	User       []string `form:"user" help:"Database users that the role may log in as, comma-separated or with the flag repeated." placeholder:"USER"`
	Account    string   `form:"account" help:"AWS account of the database, 12 digits. Default: requested from AWS." placeholder:"ID"`
	ResourceID string   `form:"id" name:"resource-id" help:"Resource ID for the policy: cluster-..., db-... or prx-... Default: requested from AWS. With --account and --resource-id, iamproxy sends no request." placeholder:"ID"`
	Via        string   `form:"via" help:"--via of run. With ssm://TARGET, the policy also allows the session of Session Manager." placeholder:"ssm://TARGET"`
	Format     string   `help:"json, terraform (a data source) or cdk (TypeScript). Default: json." enum:"json,terraform,cdk" default:"json" placeholder:"FORMAT"`
	credentialFlags

	databases []policyDatabase // set by Validate
}

// policyDatabase is an endpoint with the users that may log in to it.
type policyDatabase struct {
	endpoint.Endpoint
	users []string
}

// lookupTimeout bounds all requests to AWS.
const lookupTimeout = 30 * time.Second

// Validate parses the endpoints and users.
func (c *policyCommand) Validate(ctx context.Context) error {
	flags := c.flags()
	flags.Via = c.Via
	endpoints, err := endpoint.ParseAll(ctx, c.Endpoints, flags)
	if err != nil {
		return err
	}
	for _, e := range endpoints {
		users, err := c.users(e)
		if err != nil {
			return err
		}
		if err := c.checkResource(e); err != nil {
			return err
		}
		c.databases = append(c.databases, policyDatabase{e, users})
	}
	if c.ResourceID != "" && len(c.databases) > 1 {
		return errors.New("--resource-id belongs to one database: give one ENDPOINT (all names of a cluster have the same resource ID)")
	}
	return nil
}

// users returns the users of the endpoint's key user, or of the flag.
func (c *policyCommand) users(e endpoint.Endpoint) ([]string, error) {
	users := c.User
	if e.User != "" {
		users = []string{e.User}
	}
	if len(users) == 0 {
		return nil, fmt.Errorf("--user is required: the database users that may log in (or user= in ENDPOINT, for %s)", e.Host)
	}
	trimNames(users)
	for _, user := range users {
		if err := c.checkUser(user, e.Name.Kind); err != nil {
			return nil, err
		}
	}
	return users, nil
}

// checkUser returns an error for a name that a policy cannot contain. The characters of a policy
// end at U+00FF. A policy for DSQL does not contain the name.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutRolePolicy.html
func (c *policyCommand) checkUser(user string, kind auth.Kind) error {
	if err := checkName("--user", user); err != nil || kind == auth.DSQL {
		return err
	}
	switch {
	case strings.ContainsFunc(user, func(r rune) bool { return r > '\u00ff' }):
		return fmt.Errorf("--user %q: a policy can only have characters up to U+00FF; rename the user", user)
	case c.Format == "terraform" && strings.Contains(user, "&{"):
		return fmt.Errorf("--user %q: Terraform would expand &{ as a variable; use --format json", user)
	}
	return nil
}

// checkResource returns an error if --account or --resource-id does not fit the endpoint.
func (c *policyCommand) checkResource(e endpoint.Endpoint) error {
	switch {
	case c.Account != "" && !isAccountID(c.Account):
		return fmt.Errorf("--account %q: must be the 12 digits of an AWS account", c.Account)
	case c.ResourceID == "":
		return nil
	case e.Name.Kind == auth.DSQL:
		return fmt.Errorf("--resource-id: leave it out; the name of %s contains it", e.Host)
	case !isResourceID(c.ResourceID):
		return fmt.Errorf("--resource-id %q: must be a DbClusterResourceId (cluster-...), a DbiResourceId (db-...) or that of an RDS Proxy (prx-...), not the database's name", c.ResourceID)
	case !canHaveName(c.ResourceID, e.Name.Kind):
		return fmt.Errorf("--resource-id %s: cannot belong to %s, which is a name of the kind %s", c.ResourceID, e.Host, e.Name.Kind)
	}
	return nil
}

var (
	isAccountID  = text.Matching(`^[0-9]{12}$`)
	isResourceID = text.Matching(`^(cluster|db|prx)-[A-Za-z0-9]+$`)
)

// canHaveName reports whether a resource with the given id can have a name of the given kind.
func canHaveName(id string, kind auth.Kind) bool {
	prefix, _, _ := strings.Cut(id, "-")
	switch kind {
	case auth.Unknown:
		return true
	case auth.RDSProxy:
		return prefix == "prx"
	case auth.Instance: // an instance of a cluster has the id of the cluster
		return prefix == "db" || prefix == "cluster"
	default:
		return prefix == "cluster"
	}
}

// Run prints the policy. Standard output contains nothing else, for use in a shell:
// aws iam put-role-policy --policy-document "$(iamproxy policy ...)".
func (c *policyCommand) Run(ctx context.Context, std streams) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM) // main ends a credential_process
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	resolver := &iampolicy.Resolver{Account: c.Account, ResourceID: c.ResourceID}
	var identities endpoint.Identities
	var policy iampolicy.Policy
	for _, database := range c.databases {
		resource, err := c.resolve(ctx, resolver, &identities, database.Endpoint)
		if err != nil {
			return err
		}
		for _, user := range database.users {
			policy.Allow(resource, user)
			if literal := iampolicy.Literal(user); literal != user && resource.Kind != auth.DSQL {
				resolver.AddNote("user \"%s\" is \"%s\" in the policy, so that IAM does not match it as a pattern", user, literal)
			}
		}
		allowSession(&policy, resolver, database.Endpoint, resource.Account)
	}
	if _, err := io.WriteString(std.out, policyFormats[c.Format](&policy)); err != nil {
		return err
	}
	for _, note := range resolver.Notes {
		fmt.Fprintln(std.err, "iamproxy: note:", note)
	}
	return nil
}

// allowSession adds the permissions for the endpoint's session of Session Manager, if it has one.
// The account is that of the database.
func allowSession(policy *iampolicy.Policy, resolver *iampolicy.Resolver, e endpoint.Endpoint, account string) {
	session, ok := e.Session()
	if !ok {
		return
	}
	if session.Profile != e.Signer.Profile || e.Signer.AssumeRole != "" {
		account = "" // the session may be in another one
		resolver.AddNote("the statements with ssm: and ssmmessages: are for the identity that opens the session (%s), the rest is for the identity that signs tokens",
			profileText(session.Profile))
	}
	policy.AllowSession(iampolicy.Session{Target: session.Target, Region: session.Region, Account: account, Host: e.Host})
}

func profileText(profile string) string {
	if profile == "" {
		return "the default credentials"
	}
	return fmt.Sprintf("profile %q", profile)
}

// policyFormats are the formats of a policy. Each ends with a newline.
var policyFormats = map[string]func(*iampolicy.Policy) string{
	"json":      (*iampolicy.Policy).JSON,
	"terraform": (*iampolicy.Policy).Terraform,
	"cdk":       (*iampolicy.Policy).CDK,
}

// resolve returns the resource of an endpoint. It needs no AWS configuration if the flags
// determine the resource.
func (c *policyCommand) resolve(ctx context.Context, resolver *iampolicy.Resolver, identities *endpoint.Identities, e endpoint.Endpoint) (auth.Resource, error) {
	db := iampolicy.Database{Host: e.Host, Kind: e.Name.Kind, Region: e.Region}
	var lookup iampolicy.AWS
	if resolver.NeedsLookup(db) {
		identity, err := identities.Load(ctx, e)
		if err != nil {
			return auth.Resource{}, usageError{resolver.LookupError(db, err)}
		}
		lookup = iampolicy.AWS{Identity: identity, Region: e.Region}
	}
	resource, err := resolver.Resolve(ctx, db, lookup)
	if err == nil && c.Account != "" && c.Account != resource.Account {
		err = usagef("--account %s: %s is in account %s", c.Account, e.Host, resource.Account)
	}
	return resource, err
}
