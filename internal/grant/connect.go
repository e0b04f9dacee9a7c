package grant

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/iamproxy/iamproxy/internal/text"
)

// cancelTimeout is the time that the server has to cancel a statement.
const cancelTimeout = 3 * time.Second

// configure sets the configuration of the administrator's connection.
func (r *grantRun) configure() (err error) {
	r.config, err = pgx.ParseConfig("host=iamproxy user=unset sslmode=disable") // Dialer does DNS and TLS
	if err != nil {
		return err
	}
	r.config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := r.Dialer.Connect(ctx)
		if err != nil {
			r.connectErr = r.Dialer.AsError(err)
			return nil, r.connectErr
		}
		conn.SetDeadline(time.Time{}) // pgx sets its own
		return conn, nil
	}
	r.config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	r.config.User, r.config.Password, r.config.Database = r.Admin.User, r.Admin.Password, r.Database
	if r.Admin.HasToken {
		r.config.RequireAuth = "password" // clear text, in which RDS requests a token
	}
	// A statement is canceled when ctx is done.
	r.config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelTimeout}
	}
	r.config.RuntimeParams = runtimeParams(r.Timeout)
	return nil
}

// runtimeParams returns settings that take precedence over those of the database and of the
// administrator. With them no function of another owner is called, names have their usual
// meaning, and the script is read as it is written.
func runtimeParams(timeout time.Duration) map[string]string {
	return map[string]string{
		"application_name":            "iamproxy grant",
		"search_path":                 "pg_catalog",
		"role":                        "none",
		"client_encoding":             "UTF8",
		"standard_conforming_strings": "on",
		"backslash_quote":             "safe_encoding",
		"DateStyle":                   "ISO, MDY",
		"IntervalStyle":               "postgres",
		"TimeZone":                    "UTC",
		// Roles are shared by all databases, also where this one is read-only by default.
		"default_transaction_read_only": "off",
		"default_transaction_isolation": "read committed",
		// The server stops when the time is up.
		"statement_timeout": strconv.FormatInt(max(timeout.Milliseconds(), 1), 10),
	}
}

var errNoRDSIAM = errors.New("role \"rds_iam\" does not exist: this is not an RDS or Aurora database, or IAM authentication was never enabled on it")

// authRequirement is part of the error of pgx for an unmet RequireAuth, which has no type.
const authRequirement = "authentication method requirement"

// explain adds advice to an error of a run.
func (r *grantRun) explain(ctx context.Context, err error) error {
	var committed committedError
	var server *pgconn.PgError
	switch {
	case errors.As(err, &committed):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return errors.New("stopped by a signal; nothing is changed")
	case !r.connected && text.Advice(r.connectErr) != "":
		return text.WithAdvice(r.connectErr)
	case !r.connected && ctx.Err() != nil:
		return fmt.Errorf("could not log in at %s within %s; check security groups and routes, or raise --timeout", r.Address, r.Timeout)
	case ctx.Err() != nil || pgconn.Timeout(err):
		return fmt.Errorf("not finished at %s within %s; nothing is changed; another session may hold a lock, or the file of --init may take longer: raise --timeout", r.Address, r.Timeout)
	case errors.As(err, &server):
		if advice := r.advice(ctx, server); advice != "" {
			return fmt.Errorf("%s; %s", serverText(err), advice)
		}
		return errors.New(serverText(err))
	case r.Admin.HasToken && strings.Contains(err.Error(), authRequirement):
		return fmt.Errorf("--admin-iam: \"%s\" logs in with a password, not with a token: it is not a member of rds_iam, or IAM authentication is off; nothing was sent", r.Admin.User)
	default:
		return err
	}
}

// advice returns what to do about an error of the server.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func (r *grantRun) advice(ctx context.Context, server *pgconn.PgError) string {
	if isCollision(server) {
		return "other sessions changed the same roles; run the same command again"
	}
	switch server.Code {
	case "28P01": // invalid_password
		return r.Admin.hint(ctx)
	case "28000": // invalid_authorization_specification
		if r.Admin.HasToken {
			return r.Admin.hint(ctx)
		}
		return "check --admin-user; a member of rds_iam logs in with a token: --admin-iam"
	case "3D000": // invalid_catalog_name
		return "check --database"
	case "42501": // insufficient_privilege
		return `"` + r.Admin.User + `" needs CREATEROLE and ADMIN OPTION on the roles it grants, as the master user has; choose another administrator with --admin-user`
	case "25006": // read_only_sql_transaction
		return r.Host + " leads to a reader; use the endpoint of the writer"
	case "53200": // out_of_memory, of the table of locks
		return "so many tables in one transaction need a larger max_locks_per_transaction (a database parameter)"
	case "57014": // query_canceled
		return "another session holds a lock: wait for its end, or raise --timeout"
	default:
		return ""
	}
}

// serverText returns the message of the server without the text that pgx adds.
func serverText(err error) string {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return server.Message + " (" + server.Code + ")"
	}
	return err.Error()
}
