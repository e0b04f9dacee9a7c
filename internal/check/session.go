package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/upstream"
	roots "github.com/iamproxy/iamproxy/tls"
)

// explain returns the result for a login that failed with err.
func (r *run) explain(err error) result {
	var server *pgwire.ServerError
	if errors.As(err, &server) {
		return r.explainServerError(server).withReason(string(server.Reason()))
	}
	own := r.Dialer.AsError(err)
	return r.explainOwnError(own).withReason(string(own.Reason))
}

// explainServerError returns the result for a server that ended the login with an
// ErrorResponse.
func (r *run) explainServerError(server *pgwire.ServerError) result {
	response := pgconn.ErrorResponseToPgError(&server.Fields)
	if r.isTokenRefused(server) {
		if next := r.rdsProxyAdvice(server.Reason()); next != "" {
			r.seen.login = otherError
			return failed(describeError(response), next)
		}
		r.seen.login = tokenRefused
		return r.explainTokenRefused(describeError(response))
	}
	r.seen.login = otherError
	return failed(describeError(response), cmp.Or(r.rdsProxyAdvice(server.Reason()), r.serverErrorAdvice(response)))
}

// explainOwnError returns the result for a login that failed without an ErrorResponse.
func (r *run) explainOwnError(own *pgwire.Error) result {
	if own.Reason == pgwire.PasswordRequested {
		r.seen.login = passwordRequested
		return r.explainPasswordRequested(own.Error())
	}
	r.seen.login = otherError
	if own.Reason == pgwire.TLSUntrusted { // the hint has a name that the server sent
		return failed(own.Error(), advice(roots.StrangerAdvice))
	}
	return failed(own.Error(), advice(own.Hint))
}

// isTokenRefused reports whether the server refused the token, or the user before it requested
// one.
func (r *run) isTokenRefused(server *pgwire.ServerError) bool {
	switch server.Reason() {
	case pgwire.LoginNotPermitted, pgwire.ProxyThrottled:
		return false
	case pgwire.DSQLAccessDenied:
		return r.Endpoint.Name.Kind == auth.DSQL
	default:
		return strings.HasPrefix(server.Fields.Code, "28")
	}
}

// rdsProxyAdvice returns advice for an error of RDS Proxy, or "".
func (r *run) rdsProxyAdvice(reason pgwire.Reason) string {
	hint := pgwire.ServerHint(reason, r.Endpoint.User)
	if r.Endpoint.Name.Kind != auth.RDSProxy || hint == "" {
		return ""
	}
	return advice(hint)
}

// explainPasswordRequested returns the result for a server that requested another kind of
// password. It does so for users that do not exist, too.
func (r *run) explainPasswordRequested(found string) result {
	switch {
	case r.seen.iamOff:
		return r.failedWithoutIAM(found+": IAM authentication is off", *r.seen.database)
	case r.Endpoint.Name.Kind == auth.RDSProxy:
		return failed(found, advice("In the RDS Proxy, add a secret for the user, and require IAM authentication (IAMAuth REQUIRED) for it. If clients log in there with this user's password, create another RDS Proxy for tokens."))
	}
	switch administrator, known := r.isAdministrator(); {
	case administrator && known:
		found += ": it is the administrator, which logs in with a password"
	case administrator:
		found += ": it is usually the administrator, which logs in with a password"
	default:
		found += ": the user does not exist, or it is not a member of rds_iam"
	}
	if r.seen.database == nil {
		found += "; IAM authentication may be off, which could not be checked"
	}
	return r.needsGrant(found)
}

// needsGrant returns the result for a user that does not exist or is not a member of rds_iam.
// Becoming one ends the password logins of a user, and nothing here shows whether it has any.
func (r *run) needsGrant(found string) result {
	if administrator, _ := r.isAdministrator(); administrator {
		return failed(found, r.grant("NEW_USER")).
			readBefore("The user is the administrator, whose password logins rds_iam would end. Create another user with:")
	}
	return failed(found, r.grant(r.Endpoint.User)).readBefore("Check the name of the user: a client that sets none uses its operating system's user name. If the user exists and logs in with a password, do not grant rds_iam, which ends its password logins: create another user. Otherwise run:")
}

// isAdministrator reports whether the user is the master user, and whether that is known. If not,
// it compares the default name.
func (r *run) isAdministrator() (administrator, known bool) {
	if d := r.seen.database; d != nil && d.MasterUser != "" {
		return r.Endpoint.User == d.MasterUser, true
	}
	return r.Endpoint.User == defaultAdministrator, false
}

// defaultAdministrator is the name that RDS proposes for the master user.
const defaultAdministrator = "postgres"

// grant returns the command line that creates a user and grants rds_iam, at a writer
// endpoint. It does not set PGPASSWORD, which would hide a password that the user has
// exported; grant reports a missing one.
func (r *run) grant(user string) string {
	e, options := r.suggested(), r.Endpoint.ConnectFlags(r.CAFile)
	e.User, e.Target = user, ""
	if d := r.seen.database; d != nil {
		if (e.Name.Kind == auth.Reader || e.Name.Kind == auth.Custom) && d.Writer != "" {
			e.Host = d.Writer
		}
		switch {
		case d.MasterSecret != "":
			options = slices.Concat(options, e.SignFlags(), []string{"--admin-secret", d.MasterSecret})
		case d.MasterUser != "" && d.MasterUser != defaultAdministrator:
			options = append(options, "--admin-user", d.MasterUser)
		}
	}
	return e.Command("grant", options...)
}

// explainTokenRefused returns the result for a refused token. The server gives no reason.
func (r *run) explainTokenRefused(found string) result {
	if cause := rootCause(r.steps, r.seen); cause.State == Failed {
		return result{state: Failed, found: found + "; see " + cause.Name, next: cause.Next}
	}
	found += ": " + unexplained(r.steps)
	switch {
	case r.Endpoint.Name.Kind == auth.DSQL && r.Endpoint.User != "admin" && r.stateOf(Policy) == OK:
		return failed(found+"; the database user may not be granted to the IAM role", advice(fmt.Sprintf("As the user \"admin\", run this SQL statement: AWS IAM GRANT %s TO 'ROLE_ARN';", text.QuoteIdentifier(r.Endpoint.User))))
	case r.stateOf(Policy) != OK:
		return failed(found, r.writePolicy())
	default:
		return failed(found, r.showLog())
	}
}

// showLog returns the command line that shows the reason, if the log is exported.
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.Troubleshooting.html
func (r *run) showLog() string {
	d := r.seen.database
	if d == nil || d.Kind == auth.DSQL || d.Kind == auth.RDSProxy {
		return advice("Look for the reason in CloudTrail and in the log of the database.")
	}
	return r.awsLine("logs", "tail", fmt.Sprintf("/aws/rds/%s/%s/iam-db-auth-error", describe(*d), d.Identifier), "--since", "15m")
}

// serverErrorAdvice returns the next step for an error after the server accepted the token.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func (r *run) serverErrorAdvice(response *pgconn.PgError) string {
	user, database := text.QuoteIdentifier(r.Endpoint.User), text.QuoteIdentifier(r.Endpoint.Database)
	switch response.Code {
	case "3D000": // invalid_catalog_name
		return advice("Pass an existing database with --database, or create it as an administrator: CREATE DATABASE " + database + ";")
	case "42501": // insufficient_privilege
		return advice(fmt.Sprintf("If the user should connect to this database, run as an administrator: GRANT CONNECT ON DATABASE %s TO %s;", database, user))
	case "28000": // invalid_authorization_specification
		return advice(fmt.Sprintf("If the role should log in, run as an administrator: ALTER ROLE %s LOGIN;", user)) // see isTokenRefused
	case "53300": // too_many_connections
		return advice("List the connections as an administrator: SELECT usename, application_name, state, count(*) FROM pg_stat_activity GROUP BY 1, 2, 3 ORDER BY 4 DESC;")
	case "57P03": // cannot_connect_now
		return r.again()
	default:
		return advice("")
	}
}

// describeError returns the text of a server's error.
func describeError(response *pgconn.PgError) string {
	text := fmt.Sprintf("%s (%s)", response.Message, response.Code)
	if response.Hint != "" {
		text += "; " + response.Hint
	}
	return text
}

// rdsIAM checks that the user is a member of rds_iam.
func (r *run) rdsIAM(ctx context.Context) result {
	if r.Endpoint.Name.Kind == auth.DSQL || r.Endpoint.Name.Kind == auth.RDSProxy {
		return notTried(string(r.Endpoint.Name.Kind) + " does not use it")
	}
	member, err := r.query(ctx, "SELECT bool_or(pg_catalog.pg_has_role(session_user, oid, 'member')) FROM pg_catalog.pg_roles WHERE rolname = 'rds_iam'")
	switch {
	case err != nil:
		return failed(err.Error(), r.again())
	case member == "t":
		return ok(fmt.Sprintf("user %q is a member", r.Endpoint.User))
	case member == "":
		return failed("the role rds_iam does not exist", advice("Enable IAM authentication on the database. If it is not a database of RDS or Aurora, iamproxy cannot log in with tokens.")).withReason(reasonIAMDisabled)
	default:
		return r.needsGrant(fmt.Sprintf("user %q is not a member of rds_iam, and was logged in without its token", r.Endpoint.User)).withReason(reasonNotMember)
	}
}

// writes checks that the instance is writable if it has to be.
func (r *run) writes(ctx context.Context) result {
	if r.Endpoint.Name.Kind == auth.DSQL {
		return ok("writable")
	}
	reader, err := r.query(ctx, "SELECT pg_catalog.pg_is_in_recovery()")
	if err != nil {
		return failed(err.Error(), r.again())
	}
	readOnly := r.conn.ParameterStatus(upstream.ReadOnlyDefault) == "on"
	switch {
	case reader == "t" && r.Endpoint.NeedsWriter():
		return failed("the instance is read-only, as during a failover or with an outdated DNS entry", r.again()).withReason(string(pgwire.NotWritable)).
			readBefore("Repeat the check after a failover. For sessions on a reader, use the reader endpoint or target=any.")
	case reader == "t":
		return ok("read-only")
	case readOnly:
		return ok("writable, but transactions are read-only by default (default_transaction_read_only)")
	default:
		return ok("writable")
	}
}

// roundTrips is the number of measurements.
const roundTrips = 5

// roundTrip measures the time of a minimal statement.
func (r *run) roundTrip(ctx context.Context) result {
	var took []time.Duration
	for range roundTrips {
		began := time.Now()
		if _, err := r.query(ctx, "SELECT 1"); err != nil {
			return failed(err.Error(), r.again())
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return ok(fmt.Sprintf("%.2f ms (median of %d)", float64(took[roundTrips/2].Microseconds())/1000, roundTrips))
}

// query runs a query that returns one value. NULL is returned as "".
func (r *run) query(ctx context.Context, sql string) (string, error) {
	results, err := r.conn.Exec(ctx, sql).ReadAll()
	var response *pgconn.PgError
	switch {
	case errors.As(err, &response):
		return "", errors.New(describeError(response))
	case err != nil:
		return "", err
	case len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 1:
		return "", errors.New("the server did not return one value")
	}
	return string(results[0].Rows[0][0]), nil
}
