package auth

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"
)

// RefusedHint returns the hint for a login that failed because the server refused
// the token of user. The server's own message is only "PAM authentication failed".
// It may take callerTimeout to request the caller's ARN.
func (t *Tokens) RefusedHint(ctx context.Context, user string) string {
	caller, err := t.Identity.Caller(ctx)
	who := caller.ARN
	if err != nil {
		who = "a caller whom STS did not name"
	}
	return fmt.Sprintf("the token of %s (%s) was signed for %s in %s as database user %s%s. Check, in this order: %s. %s",
		who, t.origin(), t.signedFor(), t.Region, user, t.clockHint(), strings.Join(t.causes(caller, user), "; "), t.whereItIsLogged())
}

// origin describes the source of the credentials and their expiry.
func (t *Tokens) origin() string {
	cached, _ := t.Identity.state()
	text := "credentials from " + t.Identity.sourceOf(cached.creds).String()
	if cached.creds.CanExpire {
		text += ", valid until " + cached.creds.Expires.UTC().Format(time.RFC3339)
	}
	return text
}

// signedFor returns the host as the token contains it.
func (t *Tokens) signedFor() string {
	if host, _, err := net.SplitHostPort(t.Endpoint); err == nil && t.Kind == DSQL {
		return host
	}
	return t.Endpoint
}

func (t *Tokens) clockHint() string {
	switch ahead, known := t.Identity.ClockAhead(); {
	case !known:
		return ""
	case ahead < 0:
		return fmt.Sprintf("; this machine's clock is %v behind AWS's", -ahead)
	default:
		return fmt.Sprintf("; this machine's clock is %v ahead of AWS's", ahead)
	}
}

// causes lists what to check, the most likely cause first.
func (t *Tokens) causes(caller Caller, user string) []string {
	const clock = "this machine's clock is right"
	ahead, known := t.Identity.ClockAhead()
	isOff := ahead.Abs() > maxSkew
	var causes []string
	if isOff {
		causes = append(causes, clock)
	}
	causes = append(causes, t.policy(caller, user))
	switch {
	case t.Kind == DSQL && user == dsqlAdmin:
	case t.Kind == DSQL:
		causes = append(causes, fmt.Sprintf(`the user exists and was given to the role (as admin: AWS IAM GRANT %s TO 'ROLE_ARN')`, quoteName(user)))
	case t.Kind == RDSProxy:
		causes = append(causes, "the RDS Proxy asks for IAM authentication (IAMAuth REQUIRED) and has a secret for the user")
	default:
		causes = append(causes, "the database has IAM authentication enabled", "the user exists and was granted rds_iam")
	}
	if !known {
		causes = append(causes, clock)
	}
	return causes
}

// policy describes the permission that the caller needs.
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.IAMPolicy.html
func (t *Tokens) policy(caller Caller, user string) string {
	account := caller.Account
	if account == "" {
		account = "ACCOUNT"
	}
	resource := Resource{Kind: t.Kind, Region: t.Region, Account: account, ID: "RESOURCE_ID"}
	if t.Kind == DSQL {
		resource.ID = dsqlID(t.Endpoint)
		return fmt.Sprintf("the caller is allowed %s on %s", resource.Action(user), resource.ARN(user))
	}
	return fmt.Sprintf("the caller is allowed %s on %s (RESOURCE_ID is %s)", resource.Action(user), resource.ARN(user), t.resourceID())
}

// resourceID describes where to find the database's resource ID, which is not part
// of its name.
func (t *Tokens) resourceID() string {
	switch t.Kind {
	case RDSProxy:
		return "the proxy's, prx-..., at the end of its ARN"
	case Instance:
		return "the DbiResourceId, or for an instance of a cluster the DbClusterResourceId"
	default:
		return "the DbClusterResourceId, cluster-..."
	}
}

func (t *Tokens) whereItIsLogged() string {
	if t.Kind == DSQL {
		return "CloudTrail has the reason."
	}
	return "The log export iam-db-auth-error of the database has the reason."
}

// UnexpectedAuthHint returns the hint for a login that failed because the server
// requested another kind of authentication than a token. A server does so for a user
// that does not exist, too.
func (t *Tokens) UnexpectedAuthHint(user string) string {
	const never = "Do not grant rds_iam to a user that still logs in with a password, such as the master user."
	if t.Kind == RDSProxy {
		return fmt.Sprintf(`Check that user "%s" is spelled as in the database, and that the RDS Proxy requires IAM authentication for it.`, user)
	}
	return fmt.Sprintf(`User "%s" does not exist (check the spelling), or is not a member of rds_iam, or IAM authentication is off. %s`, user, never)
}

// quoteName returns name as a quoted SQL identifier.
func quoteName(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
