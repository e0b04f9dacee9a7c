package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/iampolicy"
	"github.com/iamproxy/iamproxy/internal/rdsapi"
)

// database is what RDS says of it, if this caller may ask.
func (w *walk) database(ctx context.Context) result {
	if w.Name.Kind == auth.Unknown {
		return doesNotApply("AWS knows databases by its own names")
	}
	config, err := w.Identity.Config(ctx, w.Region)
	if err != nil {
		return noAnswer(err.Error())
	}
	w.aws = &rdsapi.Client{Config: config}
	database, err := w.aws.Find(ctx, w.Host)
	switch {
	case errors.Is(err, rdsapi.ErrNotPermitted):
		return notPermitted(err.Error())
	case errors.Is(err, rdsapi.ErrNotFound):
		return w.elsewhere(err)
	case errors.Is(err, rdsapi.ErrCredentials) && !w.Identity.ClockIsOff():
		return failed(err.Error(), w.renew(w.Identity.Source()))
	case err != nil:
		return noAnswer(err.Error())
	}
	w.seen.database = &database
	return w.judge(database)
}

// elsewhere is about a database that the caller's account has not in this region.
func (w *walk) elsewhere(err error) result {
	found := err.Error()
	if account := w.seen.caller.Account; account != "" {
		found += "; the credentials are of account " + account
	}
	return failed(found, w.checkIn(w.Region, []string{"--profile", "PROFILE_OF_ITS_ACCOUNT"}))
}

// judge says whether the database can let anybody in.
func (w *walk) judge(d rdsapi.Database) result {
	what := describe(d) + " " + d.Identifier
	if d.Account != "" { // Aurora DSQL is not asked for
		what += " in account " + d.Account
	}
	w.seen.down, w.seen.foreign, w.seen.iamOff = isDown(d.Status), !isPostgreSQL(d), !d.IAM
	switch {
	case w.seen.down && d.InCluster && d.Instance != "":
		return failed(fmt.Sprintf("instance %s of %s is %s", d.Instance, what, d.Status), w.start(d))
	case w.seen.down:
		return failed(fmt.Sprintf("%s is %s", what, d.Status), w.start(d))
	case w.seen.foreign:
		return failed(fmt.Sprintf("%s is not PostgreSQL, but %s", what, d.Engine), inWords("iamproxy is for PostgreSQL alone"))
	case w.seen.iamOff:
		found := "IAM authentication is off on " + what
		if d.IAMPending {
			found += ", until the next maintenance window"
		}
		return failed(found, w.enableIAM(d))
	case d.Port != 0 && strconv.Itoa(d.Port) != w.Port:
		return failed(fmt.Sprintf("%s listens at port %d, and not at %s", what, d.Port, w.Port), w.atPort(d.Port))
	case d.Kind == auth.DSQL:
		return ok(what + ", which takes tokens alone; whether it runs is not asked")
	default:
		return ok(what + ": " + d.Status + ", IAM authentication is on")
	}
}

// describe is what a database is, in RDS's words.
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

// isDown is about the words for a database that lets nobody in.
// https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/accessing-monitoring.html
func isDown(status string) bool { return down.MatchString(status) }

var down = regexp.MustCompile(`^(stopped|stopping|starting|creating|deleting|failed|suspended|suspending|restore-error|insufficient-.*|inaccessible-.*|incompatible-.*)$`)

// start is how a database comes up, or how to wait until it does. A cluster's instances are
// started with it.
func (w *walk) start(d rdsapi.Database) string {
	switch {
	case d.Status == "deleting":
		return inWords("it is gone for good; give the name of another database")
	case d.Kind == auth.DSQL || d.Kind == auth.RDSProxy:
		return inWords("wait until it is available")
	case d.Status == "stopping":
		return inWords("when it has stopped, start it: " + w.startLine(d))
	case d.Status == "stopped":
		return w.startLine(d)
	case (d.Status == "starting" || d.Status == "creating") && d.InCluster && d.Instance == "":
		return w.awsLine("rds", "wait", "db-cluster-available", "--db-cluster-identifier", d.Identifier)
	case d.Status == "starting" || d.Status == "creating":
		return w.awsLine("rds", "wait", "db-instance-available", "--db-instance-identifier", d.Instance)
	default:
		return inWords("it does not come up by itself; the events of the database in RDS say why")
	}
}

func (w *walk) startLine(d rdsapi.Database) string {
	if d.InCluster {
		return w.awsLine("rds", "start-db-cluster", "--db-cluster-identifier", d.Identifier)
	}
	return w.awsLine("rds", "start-db-instance", "--db-instance-identifier", d.Identifier)
}

// enableIAM is the switch.
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.Enabling.html
func (w *walk) enableIAM(d rdsapi.Database) string {
	switch {
	case d.Kind == auth.RDSProxy:
		return inWords("set IAM authentication (IAMAuth REQUIRED) on the entry of the user's secret in the RDS Proxy " + d.Identifier)
	case d.InCluster:
		return w.awsLine("rds", "modify-db-cluster", "--db-cluster-identifier", d.Identifier, "--enable-iam-database-authentication", "--apply-immediately")
	default:
		return w.awsLine("rds", "modify-db-instance", "--db-instance-identifier", d.Identifier, "--enable-iam-database-authentication", "--apply-immediately")
	}
}

// atPort is this check at another port.
func (w *walk) atPort(port int) string {
	other := *w.Check
	other.Port = strconv.Itoa(port)
	return (&walk{Check: &other}).again()
}

// policy is whether IAM lets this caller log in, if it may be asked.
func (w *walk) policy(ctx context.Context) result {
	switch {
	case w.seen.caller.ARN == "":
		return notTriedFor(Identity)
	case w.seen.database == nil:
		return notTriedFor(Database)
	}
	resource := w.resource()
	decision, err := w.aws.MayConnect(ctx, w.seen.caller.ARN, resource, w.User)
	switch {
	case errors.Is(err, rdsapi.ErrNotPermitted):
		return notPermitted(err.Error())
	case err != nil:
		return noAnswer(err.Error())
	case decision.Allowed:
		found := fmt.Sprintf("allows %s on %s", resource.Action(w.User), resource.ARN(w.User))
		return ok(found + asFarAs(decision.Missing))
	}
	return w.notAllowed(resource, decision)
}

// resource is the database as policies have it. Where RDS has no say of whose it is, it is
// the caller's.
func (w *walk) resource() auth.Resource {
	resource := w.seen.database.Resource
	resource.Account = cmp.Or(resource.Account, w.seen.caller.Account)
	return resource
}

// notAllowed is about policies that do not let the caller in. Where another thing than a
// missing Allow is in the way, one more is of no use.
func (w *walk) notAllowed(resource auth.Resource, decision rdsapi.Decision) result {
	found := fmt.Sprintf("%s is not allowed %s on %s", w.seen.caller.ARN, resource.Action(w.User), resource.ARN(w.User))
	switch {
	case decision.By != "":
		found += ": " + decision.By
	case len(decision.Missing) == 0:
		found += ": no policy"
	}
	switch {
	case resource.Account != w.seen.caller.Account:
		return failed(found, w.checkIn(w.Region, []string{"--profile", "PROFILE_OF_ITS_ACCOUNT"}))
	case decision.Denied:
		return failed(found, inWords("remove the Deny, which wins over every Allow: "+decision.By))
	case decision.By != "":
		return failed(found, inWords("this has to allow it, too: "+decision.By))
	case len(decision.Missing) > 0:
		return noAnswer(found + asFarAs(decision.Missing))
	default:
		return failed(found, w.allow(resource))
	}
}

// asFarAs is what is left open where IAM is asked without condition keys.
func asFarAs(missing []string) string {
	if len(missing) == 0 {
		return ""
	}
	return ", as far as IAM can judge without the condition keys " + strings.Join(missing, ", ")
}

// permissionSet is the name of a role that IAM Identity Center keeps, and would set back.
var permissionSet = regexp.MustCompile(`^AWSReservedSSO_(.+)_[0-9a-f]{16}$`)

// document is the line that lets the caller in or, where that or the database is not known,
// shows what a policy has to say.
func (w *walk) document() string {
	if w.seen.database != nil && w.seen.caller.ARN != "" {
		return w.allow(w.resource())
	}
	options := slices.Clone(w.Options.Sign)
	if account := w.seen.caller.Account; account != "" {
		options = []string{"--account", account}
		if w.Name.Kind != auth.DSQL {
			options = append(options, "--resource-id", "RESOURCE_ID")
		}
	}
	return w.line("policy", w.Region, options...)
}

// allow is the line that lets the caller in.
func (w *walk) allow(resource auth.Resource) string {
	var document iampolicy.Policy
	document.Allow(resource, w.User)
	name := policyName(resource, w.User)
	signer, role := rdsapi.PolicyHolder(w.seen.caller.ARN)
	switch {
	case signer == "" && role == "":
		return inWords("give whoever signs this policy: " + document.Line())
	case signer != "":
		return w.iamLine("put-user-policy", "--user-name", signer, "--policy-name", name, "--policy-document", document.Line())
	}
	if set := permissionSet.FindStringSubmatch(role); set != nil {
		return inWords(fmt.Sprintf("in IAM Identity Center, add this to the inline policy of the permission set %s: %s", set[1], document.Line()))
	}
	return w.iamLine("put-role-policy", "--role-name", role, "--policy-name", name, "--policy-document", document.Line())
}

// iamLine has no region, since IAM has none.
func (w *walk) iamLine(words ...string) string {
	return "aws iam " + commandLine(words...) + w.profileFlag()
}

// policyName is another one for each database and user: putting a policy replaces the one
// of the same name.
func policyName(resource auth.Resource, user string) string {
	name := notInName.ReplaceAllStringFunc("iamproxy-"+resource.ID+"-"+user, func(odd string) string { return fmt.Sprintf("=%X", odd) })
	return name[:min(len(name), maxPolicyName)]
}

// notInName is what names of policies do not have, and what stands for that here.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutRolePolicy.html
var notInName = regexp.MustCompile(`[^\w+,.@-]`)

const maxPolicyName = 128
