package auth

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/internal/text"
)

// refusedAge is the time within which refused tokens share a verdict of STS.
const refusedAge = time.Second

// RefusedHint returns the hint for a login that failed because the server refused
// the token of user. The server's own message is only "PAM authentication failed". A
// cause that is known comes first; without one, the hint lists what to check. It may
// take callerTimeout to request the verdict of STS about the credentials.
func (t *Tokens) RefusedHint(ctx context.Context, user string) string {
	var answer verdict
	if creds, _, err := t.Identity.snapshot(ctx); err == nil {
		answer = t.Identity.requestVerdict(ctx, creds, refusedAge)
	}
	var sentences []string
	add := func(sentence string) {
		if sentence != "" {
			sentences = append(sentences, sentence)
		}
	}
	otherRegion := t.regionHint()
	add(otherRegion)
	add(t.clockHint())
	if answer.rejected != nil {
		add(answer.rejected.Message + ". " + answer.rejected.Hint)
		return strings.Join(sentences, " ")
	}
	add(t.signer(answer.caller, user))
	if otherRegion == "" {
		causes := t.causes(answer.caller, user)
		if cached, _ := t.Identity.state(); answer.caller.ARN == "" && !cached.creds.CanExpire {
			causes = append(causes, "The credentials are still valid, which STS did not confirm")
		}
		add("Check, in this order: " + numbered(causes))
		add(t.whereItIsLogged())
	}
	return strings.Join(sentences, " ")
}

// numbered returns sentences as a numbered list on one line.
func numbered(sentences []string) string {
	var list strings.Builder
	for n, sentence := range sentences {
		if n > 0 {
			list.WriteByte(' ')
		}
		fmt.Fprintf(&list, "(%d) %s.", n+1, sentence)
	}
	return list.String()
}

// regionHint returns the cause if the token was signed for another region than the
// one in the endpoint's name.
func (t *Tokens) regionHint() string {
	host := t.host()
	if named := ParseName(host).Region; named != "" && named != t.Region {
		return fmt.Sprintf("The token was signed for %s, but the endpoint is in %s. Remove --region (or IAMPROXY_REGION), or region= in ENDPOINT.", t.Region, named)
	}
	return ""
}

// clockHint returns the cause if the clock is off.
func (t *Tokens) clockHint() string {
	if !t.Identity.ClockIsOff() {
		return ""
	}
	ahead, _ := t.Identity.ClockAhead()
	direction := "ahead of"
	if ahead < 0 {
		direction = "behind"
	}
	return fmt.Sprintf("The clock of this machine is %v %s AWS's. Synchronize it with NTP: databases reject tokens from the future and expired ones.", ahead.Abs(), direction)
}

// signer returns a sentence about the token.
func (t *Tokens) signer(caller Caller, user string) string {
	by := "with " + t.origin() + ", whose owner STS did not name,"
	if caller.ARN != "" {
		by = "by " + caller.ARN + " (" + t.origin() + ")"
	}
	return fmt.Sprintf("The token was signed %s for %s in %s as database user \"%s\".", by, t.signedFor(), t.Region, user)
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

func (t *Tokens) host() string {
	if host, _, err := net.SplitHostPort(t.Endpoint); err == nil {
		return host
	}
	return t.Endpoint
}

// signedFor returns the host as the token contains it.
func (t *Tokens) signedFor() string {
	if t.Kind == DSQL {
		return t.host()
	}
	return t.Endpoint
}

// causes lists what to check, the most likely cause first.
func (t *Tokens) causes(caller Caller, user string) []string {
	name := `"` + user + `"`
	spelled := fmt.Sprintf("User %s exists, and has the same spelling and case in the IAM policy", name)
	switch {
	case t.Kind == DSQL && user == dsqlAdmin:
		return []string{t.policy(caller, user)}
	case t.Kind == DSQL:
		return []string{fmt.Sprintf("User %s exists and is mapped to the role; if not, run as admin: %s", name, "AWS IAM GRANT "+text.QuoteIdentifier(user)+" TO 'ROLE_ARN'"), t.policy(caller, user)}
	case t.Kind == RDSProxy:
		return []string{
			fmt.Sprintf("The RDS Proxy has a secret for user %s, and its role may read it", name),
			"IAM authentication is set to Required in the RDS Proxy for that secret",
			t.policy(caller, user),
		}
	}
	causes := []string{spelled, t.policy(caller, user), "IAM authentication is enabled on the database"}
	if _, known := t.Identity.ClockAhead(); !known {
		causes = append(causes, "The clock of this machine is right")
	}
	return causes
}

// policy describes the permission that the caller needs.
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.IAMPolicy.html
func (t *Tokens) policy(caller Caller, user string) string {
	resource := Resource{Kind: t.Kind, Region: t.Region, Account: cmp.Or(caller.Account, "ACCOUNT"), ID: "RESOURCE_ID"}
	if t.Kind == DSQL {
		resource.ID = dsqlID(t.Endpoint)
		return fmt.Sprintf("An IAM policy allows the caller %s on %s", resource.Action(user), resource.ARN(user))
	}
	return fmt.Sprintf("An IAM policy allows the caller %s on %s, where RESOURCE_ID is %s, and the database is in account %s",
		resource.Action(user), resource.ARN(user), t.resourceID(), resource.Account)
}

// resourceID describes where to find the database's resource ID, which is not part
// of its name.
func (t *Tokens) resourceID() string {
	switch t.Kind {
	case RDSProxy:
		return "the last part (prx-...) of the proxy's ARN"
	case Instance:
		return "the DbiResourceId, or for an instance of a cluster the DbClusterResourceId"
	default:
		return "the DbClusterResourceId (cluster-...)"
	}
}

// whereItIsLogged names the log that has the reason.
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/rds-proxy.troubleshooting.html
func (t *Tokens) whereItIsLogged() string {
	switch t.Kind {
	case DSQL:
		return "CloudTrail has the reason."
	case RDSProxy:
		name, rest, _ := strings.Cut(t.host(), ".")
		if !strings.HasPrefix(rest, "proxy-") { // an additional endpoint, whose name is not the proxy's
			name = "NAME"
		}
		return "The log group /aws/rds/proxy/" + name + " in CloudWatch has the reason."
	default:
		return "The log export iam-db-auth-error of the database has the reason."
	}
}

// administrators are usual names of the master user of a database.
var administrators = []string{"postgres", "admin", "master", "masteruser", "dbadmin", "rdsadmin"}

// systemUsers are administrators of operating systems. libpq connects with the name of the
// operating system's user if the client sets none.
var systemUsers = []string{"root", "administrator"}

// UnexpectedAuthHint returns the hint for a login that failed because the server
// requested another kind of authentication than a token. It does not suggest to grant
// rds_iam: that ends the password logins of the user.
func (t *Tokens) UnexpectedAuthHint(user string) string {
	switch {
	case t.Kind == RDSProxy:
		return fmt.Sprintf(`The RDS Proxy requests a password from user "%s". If no client logs in there with this password, set IAM authentication to Required for the user's secret. Otherwise create another RDS Proxy for tokens.`, user)
	case t.Kind == DSQL:
		return fmt.Sprintf(`User "%s" does not exist, or the server is not Aurora DSQL.`, user)
	case slices.Contains(systemUsers, strings.ToLower(user)):
		return fmt.Sprintf(`User "%s" is the name that libpq uses if the client sets no user and runs as %s. Set the user in the client, such as user=app. `+
			`If it is the administrator, it logs in with a password: create another user with iamproxy grant.`, user, user)
	case slices.Contains(administrators, strings.ToLower(user)):
		return fmt.Sprintf(`User "%s" is usually the administrator, which logs in with a password. Create another user with iamproxy grant, and connect as that user.`, user)
	}
	return fmt.Sprintf(`User "%s" does not exist, or is not a member of rds_iam, or IAM authentication is off. `+
		`Check the spelling of the name first. Do not grant rds_iam to a user that still logs in with a password.`, user)
}
