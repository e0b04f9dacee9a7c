package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/iampolicy"
)

type policyCommand struct {
	Endpoints  []string `arg:"" name:"endpoint" help:"The databases, by the names that AWS gave them."`
	User       []string `help:"Database users that the role may log in as; several with commas between them, or the flag several times." placeholder:"USER"`
	Account    string   `help:"The database's AWS account, 12 digits. Default: asked from AWS." placeholder:"ID"`
	ResourceID string   `name:"resource-id" help:"cluster-..., db-... or prx-..., which a policy names in place of the endpoint. Default: asked from AWS. With --account nothing is asked." placeholder:"ID"`
	Format     string   `help:"json, terraform (a data source) or cdk (TypeScript). Default: json." enum:"json,terraform,cdk" default:"json" placeholder:"FORMAT"`
	signing
}

// lookupTimeout bounds all that AWS is asked.
const lookupTimeout = 30 * time.Second

// Run prints the policy. It is the only thing on standard output, so that a shell can
// take it: aws iam put-role-policy --policy-document "$(iamproxy policy ...)".
func (c *policyCommand) Run(ctx context.Context, std streams) error {
	databases, err := c.databases(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	look := lookup{account: c.Account, id: c.ResourceID, aws: &awsDirectory{}}
	var p iampolicy.Policy
	for _, d := range databases {
		resource, err := look.resource(ctx, d.endpoint)
		if err != nil {
			return err
		}
		for _, user := range d.users {
			p.Allow(resource, user)
			if written := iampolicy.Literal(user); written != user && resource.Kind != auth.DSQL {
				look.note("in the policy the user %s is %s, which IAM takes for that name and for no pattern", user, written)
			}
		}
	}
	if _, err := io.WriteString(std.out, policyFormats[c.Format](&p)); err != nil {
		return err
	}
	for _, note := range look.notes {
		fmt.Fprintln(std.err, "iamproxy: note:", note)
	}
	return nil
}

// policyFormats are the ways to write a policy. All end with a newline.
var policyFormats = map[string]func(*iampolicy.Policy) string{
	"json":      (*iampolicy.Policy).JSON,
	"terraform": (*iampolicy.Policy).Terraform,
	"cdk":       (*iampolicy.Policy).CDK,
}

// loginsTo are the users of one endpoint.
type loginsTo struct {
	endpoint
	users []string
}

// databases checks all that can be wrong without asking AWS.
func (c *policyCommand) databases(ctx context.Context) (databases []loginsTo, err error) {
	endpoints, err := parseEndpoints(ctx, c.Endpoints, c.flags())
	if err != nil {
		return nil, err
	}
	for _, e := range endpoints {
		users, err := c.users(e)
		if err != nil {
			return nil, err
		}
		if err := c.check(e); err != nil {
			return nil, err
		}
		databases = append(databases, loginsTo{e, users})
	}
	if c.ResourceID != "" && len(databases) > 1 {
		return nil, usagef("--resource-id is of one database: give one ENDPOINT with it (all names of a cluster have the same)")
	}
	return databases, nil
}

// check is about --account and --resource-id, as far as they can be wrong for e.
func (c *policyCommand) check(e endpoint) error {
	switch {
	case c.Account != "" && !accountID.MatchString(c.Account):
		return usagef("--account %q: must be the 12 digits of an AWS account", c.Account)
	case c.ResourceID == "":
		return nil
	case e.name.Kind == auth.DSQL:
		return usagef("--resource-id: the name of %s tells it; leave it out", e.host)
	case !resourceID.MatchString(c.ResourceID):
		return usagef("--resource-id %q: must be the DbClusterResourceId, cluster-..., the DbiResourceId, db-..., or of an RDS Proxy prx-..., and is not the database's name", c.ResourceID)
	case !fits(c.ResourceID, e.name.Kind):
		return usagef("--resource-id %s: not that of %s, which is a name of the kind %s", c.ResourceID, e.host, e.name.Kind)
	}
	return nil
}

var (
	accountID  = regexp.MustCompile(`^[0-9]{12}$`)
	resourceID = regexp.MustCompile(`^(cluster|db|prx)-[A-Za-z0-9]+$`)
)

// fits reports whether a resource of that id can have a name of that kind.
func fits(id string, kind auth.Kind) bool {
	beginning, _, _ := strings.Cut(id, "-")
	switch kind {
	case auth.Unknown:
		return true
	case auth.RDSProxy:
		return beginning == "prx"
	case auth.Instance: // that of a cluster has the cluster's
		return beginning == "db" || beginning == "cluster"
	default:
		return beginning == "cluster"
	}
}

// users are those of the endpoint's key, or of the flag.
func (c *policyCommand) users(e endpoint) ([]string, error) {
	users := c.User
	if e.user != "" {
		users = []string{e.user}
	}
	if len(users) == 0 {
		return nil, usagef("a policy is for database users: give --user, or user= with %s", e.host)
	}
	for i, user := range users {
		users[i] = strings.TrimSpace(user) // as in "app, other"
		if err := c.checkUser(users[i], e.name.Kind); err != nil {
			return nil, err
		}
	}
	return users, nil
}

// checkUser refuses what a policy cannot have. Its characters end at U+00FF; one for DSQL does
// not name the user.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutRolePolicy.html
func (c *policyCommand) checkUser(user string, kind auth.Kind) error {
	switch {
	case user == "":
		return usagef("--user: a name in it is empty")
	case len(user) > maxName:
		return usagef("--user %s: PostgreSQL's names have at most %d bytes", user, maxName)
	case strings.ContainsFunc(user, unicode.IsControl):
		return usagef("--user %q: a name in it has control characters", user)
	case kind != auth.DSQL && strings.ContainsFunc(user, func(r rune) bool { return r > '\u00ff' }):
		return usagef("--user %s: the characters of a policy end at U+00FF; give that user another name", user)
	case kind != auth.DSQL && c.Format == "terraform" && strings.Contains(user, "&{"):
		return usagef("--user %s: Terraform would make a variable of &{; use --format json", user)
	}
	return nil
}
