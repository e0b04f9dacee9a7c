package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/upstream"
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
	return failed(describeError(response), r.serverErrorAdvice(response))
}

// explainOwnError returns the result for a login that failed without an ErrorResponse.
func (r *run) explainOwnError(own *pgwire.Error) result {
	if own.Reason == pgwire.PasswordRequested {
		r.seen.login = passwordRequested
		return r.explainPasswordRequested(own.Error())
	}
	r.seen.login = otherError
	return failed(own.Error(), advice(own.Hint))
}

// isTokenRefused reports whether the server refused the token, or the user before it requested
// one.
func (r *run) isTokenRefused(server *pgwire.ServerError) bool {
	switch server.Reason() {
	case pgwire.LoginNotPermitted:
		return false
	case pgwire.DSQLAccessDenied:
		return r.Name.Kind == auth.DSQL
	default:
		return strings.HasPrefix(server.Fields.Code, "28")
	}
}

// rdsProxyAdvice returns advice for an error of RDS Proxy, or "".
func (r *run) rdsProxyAdvice(reason pgwire.Reason) string {
	switch {
	case r.Name.Kind != auth.RDSProxy:
		return ""
	case reason == pgwire.ProxySecretMissing:
		return advice("the RDS Proxy has to have a secret for " + r.User)
	case reason == pgwire.ProxyIAMNotAllowed:
		return advice("the RDS Proxy has to take IAM authentication (IAMAuth REQUIRED) for " + r.User)
	default:
		return ""
	}
}

// explainPasswordRequested returns the result for a server that requested another kind of
// password. It does so for users that do not exist, too.
func (r *run) explainPasswordRequested(found string) result {
	switch {
	case r.seen.iamOff:
		return failed(found+": IAM authentication is off", r.enableIAM(*r.seen.database))
	case r.Name.Kind == auth.RDSProxy:
		return failed(found, advice("the RDS Proxy has to take IAM authentication (IAMAuth REQUIRED), and to have a secret for "+r.User))
	}
	found += fmt.Sprintf(": there is no database user %s, or it has no rds_iam", quoteSQL(r.User))
	if r.seen.database == nil {
		found += ", or IAM authentication is off, which could not be looked at"
	}
	return failed(found, r.grant())
}

// grant returns the command line that creates the user and grants rds_iam, at a writer
// endpoint. It does not set PGPASSWORD, which would hide a password that the user has
// exported; grant reports a missing one.
func (r *run) grant() string {
	options := slices.Clone(r.Options.Reach)
	at := *r.Check
	at.Target = ""
	if d := r.seen.database; d != nil {
		if (r.Name.Kind == auth.Reader || r.Name.Kind == auth.Custom) && d.Writer != "" {
			at.Host = d.Writer
		}
		switch {
		case d.MasterSecret != "":
			options = slices.Concat(options, r.Options.Sign, []string{"--admin-secret", d.MasterSecret})
		case d.MasterUser != "" && d.MasterUser != "postgres":
			options = append(options, "--admin-user", d.MasterUser)
		}
	}
	return (&run{Check: &at}).line("grant", r.Region, options...)
}

// explainTokenRefused returns the result for a refused token. The server gives no reason.
func (r *run) explainTokenRefused(found string) result {
	if cause := rootCause(r.steps, r.seen); cause.State == Failed {
		return failed(found+"; see "+cause.Name, cause.Next)
	}
	found += ": " + unexplained(r.steps)
	switch {
	case r.Name.Kind == auth.DSQL && r.User != "admin" && r.stateOf(Policy) == OK:
		return failed(found+"; as admin, the user must have been given to the role", fmt.Sprintf("AWS IAM GRANT %s TO 'ROLE_ARN';", quoteSQL(r.User)))
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
		return advice("CloudTrail, or the log of the database, may have the reason")
	}
	return r.awsLine("logs", "tail", fmt.Sprintf("/aws/rds/%s/%s/iam-db-auth-error", describe(*d), d.Identifier), "--since", "15m")
}

// serverErrorAdvice returns the next step for an error after the server accepted the token.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func (r *run) serverErrorAdvice(response *pgconn.PgError) string {
	user, database := quoteSQL(r.User), quoteSQL(r.Database)
	switch response.Code {
	case "3D000": // invalid_catalog_name
		return advice("name a database that there is with --database, or make it, as an administrator: CREATE DATABASE " + database)
	case "42501": // insufficient_privilege
		return fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s;", database, user)
	case "28000": // invalid_authorization_specification
		return fmt.Sprintf("ALTER ROLE %s LOGIN;", user) // see isTokenRefused
	case "53300": // too_many_connections
		return "SELECT usename, application_name, state, count(*) FROM pg_stat_activity GROUP BY 1, 2, 3 ORDER BY 4 DESC;"
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
	if r.Name.Kind == auth.DSQL || r.Name.Kind == auth.RDSProxy {
		return doesNotApply(string(r.Name.Kind) + " goes by other things")
	}
	member, err := r.query(ctx, "SELECT bool_or(pg_catalog.pg_has_role(session_user, oid, 'member')) FROM pg_catalog.pg_roles WHERE rolname = 'rds_iam'")
	switch {
	case err != nil:
		return failed(err.Error(), r.again())
	case member == "t":
		return ok(r.User + " has it")
	case member == "":
		return failed("there is no role rds_iam: this is not an RDS or Aurora database, or IAM authentication was never enabled on it", r.grant())
	default:
		return failed(r.User+" does not have it, and was let in for another reason", r.grant())
	}
}

// writes checks that the instance is writable if it has to be.
func (r *run) writes(ctx context.Context) result {
	if r.Name.Kind == auth.DSQL {
		return ok("every endpoint of Aurora DSQL takes writes")
	}
	reader, err := r.query(ctx, "SELECT pg_catalog.pg_is_in_recovery()")
	if err != nil {
		return failed(err.Error(), r.again())
	}
	readOnly := r.conn.ParameterStatus(upstream.ReadOnlyDefault) == "on"
	switch {
	case reader == "t" && r.Writer:
		return failed("leads to an instance that takes no writes, as in a failover, or by a name that DNS has not forgotten yet", r.again())
	case reader == "t":
		return ok("reads only")
	case readOnly:
		return ok("takes writes, but transactions begin read-only (default_transaction_read_only)")
	default:
		return ok("takes writes")
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
	return ok(fmt.Sprintf("%.2f ms, the median of %d", float64(took[roundTrips/2].Microseconds())/1000, roundTrips))
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
		return "", errors.New("the server does not answer with one value")
	}
	return string(results[0].Rows[0][0]), nil
}
