package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/iampolicy"
	"github.com/iamproxy/iamproxy/internal/rdsapi"
	"github.com/iamproxy/iamproxy/internal/text"
)

// database requests the database's description from RDS.
func (r *run) database(ctx context.Context) result {
	if r.Endpoint.Name.Kind == auth.Unknown {
		return notTried("not a name that AWS assigned, so RDS cannot find the database by it")
	}
	config, err := r.Identity.Config(ctx, r.Endpoint.Region)
	if err != nil {
		return noAnswer(err.Error()).withReason(reasonOf(err))
	}
	r.aws = &rdsapi.Client{Config: config}
	database, err := r.aws.Find(ctx, r.Endpoint.Host)
	switch {
	case errors.Is(err, rdsapi.ErrNotPermitted):
		return notPermitted(err.Error())
	case errors.Is(err, rdsapi.ErrNotFound):
		return r.databaseNotFound(err)
	case errors.Is(err, rdsapi.ErrCredentials) && !r.Identity.ClockIsOff():
		return r.mustRenew(err.Error(), r.Identity.Source()).withReason(reasonCredentials)
	case err != nil:
		return noAnswer(err.Error())
	}
	r.seen.database = &database
	return r.judge(database)
}

// databaseNotFound returns the result for a database that is not in the caller's account and
// region.
func (r *run) databaseNotFound(err error) result {
	found := err.Error()
	if account := r.seen.caller.Account; account != "" {
		found += "; the credentials belong to account " + account
	}
	return failed(found, r.ofAccount()).withReason(reasonDatabaseNotFound)
}

// judge returns whether the database d accepts logins with tokens at the endpoint's port.
func (r *run) judge(d rdsapi.Database) result {
	what := fmt.Sprintf("%s %q", describe(d), d.Identifier)
	if d.Account != "" { // it may be unknown for Aurora DSQL
		what += " in account " + d.Account
	}
	r.seen.down, r.seen.foreign, r.seen.iamOff = isDown(d.Status), !isPostgreSQL(d), !d.IAM
	switch {
	case r.seen.down && d.InCluster && d.Instance != "":
		return failed(fmt.Sprintf("instance %q of %s is %s", d.Instance, what, d.Status), r.start(d)).withReason(reasonDatabaseDown)
	case r.seen.down:
		return failed(fmt.Sprintf("%s is %s", what, d.Status), r.start(d)).withReason(reasonDatabaseDown)
	case r.seen.foreign:
		return failed(fmt.Sprintf("%s runs %q, not PostgreSQL", what, d.Engine), advice("Pass the endpoint of a PostgreSQL database. iamproxy supports no other engine.")).withReason(reasonNotPostgreSQL)
	case r.seen.iamOff:
		found := "IAM authentication is off on " + what
		if d.IAMPending {
			found += "; it will be enabled in the next maintenance window"
		}
		return r.failedWithoutIAM(found, d).withReason(reasonIAMDisabled)
	case d.Port != 0 && strconv.Itoa(d.Port) != r.Endpoint.Port:
		return failed(fmt.Sprintf("%s listens on port %d, not on %s", what, d.Port, r.Endpoint.Port), r.atPort(d.Port)).withReason(reasonPortMismatch)
	case d.Kind == auth.DSQL:
		return ok(what + "; its status is not checked")
	default:
		return ok(what + ": " + d.Status + ", IAM authentication is on")
	}
}

// describe returns the type of a database.
func describe(d rdsapi.Database) string {
	switch {
	case d.Kind == auth.DSQL || d.Kind == auth.RDSProxy:
		return string(d.Kind)
	case d.InCluster:
		return "cluster"
	default:
		return "instance"
	}
}

func isPostgreSQL(d rdsapi.Database) bool {
	return d.Kind == auth.DSQL || d.Engine == "" || strings.Contains(strings.ToLower(d.Engine), "postgres")
}

// isDown reports whether a database with a status accepts no logins.
// https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/accessing-monitoring.html
var isDown = text.Matching(`^(stopped|stopping|starting|creating|deleting|failed|suspended|suspending|restore-error|insufficient-.*|inaccessible-.*|incompatible-.*)$`)

// start returns the command line that starts a database, or waits until it is available.
func (r *run) start(d rdsapi.Database) string {
	switch {
	case d.Status == "deleting":
		return advice("Pass the endpoint of another database, because this one is being deleted.")
	case d.Kind == auth.DSQL || d.Kind == auth.RDSProxy:
		return advice("Wait until it is available.")
	case d.Status == "stopping":
		return advice("When it has stopped, run: " + r.startLine(d))
	case d.Status == "stopped":
		return r.startLine(d)
	case (d.Status == "starting" || d.Status == "creating") && d.InCluster && d.Instance == "":
		return r.awsLine("rds", "wait", "db-cluster-available", "--db-cluster-identifier", d.Identifier)
	case d.Status == "starting" || d.Status == "creating":
		return r.awsLine("rds", "wait", "db-instance-available", "--db-instance-identifier", d.Instance)
	default:
		return advice("Look for the cause in the events of the database in RDS.")
	}
}

// startLine returns the command line that starts a database. Starting a cluster starts its
// instances.
func (r *run) startLine(d rdsapi.Database) string {
	if d.InCluster {
		return r.awsLine("rds", "start-db-cluster", "--db-cluster-identifier", d.Identifier)
	}
	return r.awsLine("rds", "start-db-instance", "--db-instance-identifier", d.Identifier)
}

// failedWithoutIAM returns the result of a database on which IAM authentication is off.
func (r *run) failedWithoutIAM(found string, d rdsapi.Database) result {
	res := failed(found, r.enableIAM(d))
	if d.Kind == auth.RDSProxy {
		return res
	}
	return res.readBefore("This also applies pending modifications of the database at once, which may restart it. From then on, members of rds_iam can log in with tokens only.")
}

// enableIAM returns the command line that enables IAM authentication.
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.Enabling.html
func (r *run) enableIAM(d rdsapi.Database) string {
	switch {
	case d.Kind == auth.RDSProxy:
		return advice("If no client logs in to the RDS Proxy " + d.Identifier + " with this user's password, require IAM authentication (IAMAuth REQUIRED) for the user's secret. Otherwise create another RDS Proxy for tokens.")
	case d.InCluster:
		return r.awsLine("rds", "modify-db-cluster", "--db-cluster-identifier", d.Identifier, "--enable-iam-database-authentication", "--apply-immediately")
	default:
		return r.awsLine("rds", "modify-db-instance", "--db-instance-identifier", d.Identifier, "--enable-iam-database-authentication", "--apply-immediately")
	}
}

// atPort returns the command line of this check with another port.
func (r *run) atPort(port int) string {
	e := r.suggested()
	e.Port = strconv.Itoa(port)
	return checkLine(e, r.CAFile)
}

// policy simulates whether IAM policies allow the caller to log in.
func (r *run) policy(ctx context.Context) result {
	switch {
	case r.seen.caller.ARN == "":
		return notTriedBecause(Identity)
	case r.seen.database == nil:
		return notTriedBecause(Database)
	}
	resource := r.resource()
	decision, err := r.aws.MayConnect(ctx, r.seen.caller.ARN, resource, r.Endpoint.User)
	switch {
	case errors.Is(err, rdsapi.ErrNotPermitted):
		return notPermitted(err.Error())
	case err != nil:
		return noAnswer(err.Error())
	case decision.Allowed:
		found := fmt.Sprintf("%s is allowed on %s", resource.Action(r.Endpoint.User), resource.ARN(r.Endpoint.User))
		return ok(found + unknownKeys(decision.Missing))
	}
	return r.notAllowed(resource, decision).withReason(reasonPolicyMissing)
}

// resource returns the database's resource for policies. An unknown account is taken to be
// the caller's.
func (r *run) resource() auth.Resource {
	resource := r.seen.database.Resource
	resource.Account = cmp.Or(resource.Account, r.seen.caller.Account)
	return resource
}

// notAllowed returns the result for policies that do not allow the login. It only suggests a
// policy if that would be sufficient.
func (r *run) notAllowed(resource auth.Resource, decision rdsapi.Decision) result {
	found := fmt.Sprintf("%s is not allowed %s on %s", r.seen.caller.ARN, resource.Action(r.Endpoint.User), resource.ARN(r.Endpoint.User))
	switch {
	case decision.By != "":
		found += ": " + decision.By
	case len(decision.Missing) == 0:
		found += ": no policy"
	}
	switch {
	case resource.Account != r.seen.caller.Account:
		return failed(found, r.ofAccount())
	case decision.Denied:
		return failed(found, advice("A Deny overrides every Allow. If it should not apply here, change "+decision.By+"."))
	case decision.By != "":
		return failed(found, advice("Allow it in this policy, too: "+decision.By+"."))
	case len(decision.Missing) > 0:
		return noAnswer(found + unknownKeys(decision.Missing))
	default:
		return failed(found, r.putPolicy(resource))
	}
}

// unknownKeys describes the condition keys that the simulation has no values for.
func unknownKeys(missing []string) string {
	if len(missing) == 0 {
		return ""
	}
	return ", but IAM has not evaluated conditions with these keys: " + strings.Join(missing, ", ")
}

// permissionSet matches the name of a role that IAM Identity Center manages. It would revert
// changes to the role.
var permissionSet = text.Regexp(`^AWSReservedSSO_(.+)_[0-9a-f]{16}$`)

// writePolicy returns the command line that allows the login. If the caller or the database is
// not known, it is the one that prints the policy.
func (r *run) writePolicy() string {
	if r.seen.database != nil && r.seen.caller.ARN != "" {
		return r.putPolicy(r.resource())
	}
	options := r.Endpoint.SignFlags()
	if account := r.seen.caller.Account; account != "" {
		options = []string{"--account", account}
		if r.Endpoint.Name.Kind != auth.DSQL {
			options = append(options, "--resource-id", "RESOURCE_ID")
		}
	}
	return r.suggested().Command("policy", options...)
}

// putPolicy returns the command line that allows the caller to log in.
func (r *run) putPolicy(resource auth.Resource) string {
	var document iampolicy.Policy
	document.Allow(resource, r.Endpoint.User)
	name := policyName(resource, r.Endpoint.User)
	signer, role := rdsapi.PolicyHolder(r.seen.caller.ARN)
	switch {
	case signer == "" && role == "":
		return advice("Attach this policy to the identity that signs: " + document.Line())
	case signer != "":
		return r.iamLine("put-user-policy", "--user-name", signer, "--policy-name", name, "--policy-document", document.Line())
	}
	if set := permissionSet().FindStringSubmatch(role); set != nil {
		return advice(fmt.Sprintf("In IAM Identity Center, add this to the inline policy of the permission set %s: %s", set[1], document.Line()))
	}
	return r.iamLine("put-role-policy", "--role-name", role, "--policy-name", name, "--policy-document", document.Line())
}

// iamLine returns the command line of the AWS CLI for IAM, which has no region.
func (r *run) iamLine(words ...string) string {
	return "aws iam " + text.ShellCommand(words...) + r.profileFlag()
}

// policyName returns a name that is unique to a database and a user, since a new policy
// replaces one of the same name.
func policyName(resource auth.Resource, user string) string {
	name := notInName().ReplaceAllStringFunc("iamproxy-"+resource.ID+"-"+user, func(odd string) string { return fmt.Sprintf("=%X", odd) })
	return name[:min(len(name), maxPolicyName)]
}

// notInName matches characters that names of policies cannot have, and =, which escapes
// them.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutRolePolicy.html
var notInName = text.Regexp(`[^\w+,.@-]`)

const maxPolicyName = 128
