package main

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
	"github.com/iamproxy/iamproxy/proxy"
)

// reach is how the administrator connects: over TLS that is verified for the endpoint's
// name, or not at all.
func (g *granting) reach(server *proxy.Proxy, database string, timeout time.Duration) (err error) {
	g.config, err = pgx.ParseConfig("host=iamproxy user=unset sslmode=disable") // TLS is the server's matter
	if err != nil {
		return err
	}
	g.config.DialFunc = func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
		conn, g.unreached = server.Connect(ctx)
		return conn, g.unreached
	}
	g.config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil } // and so are names
	g.config.User, g.config.Password, g.config.Database = g.admin.user, g.admin.password, database
	if g.admin.hasToken {
		g.config.RequireAuth = "password" // in clear text, as RDS asks for a token
	}
	// Nothing that works on is left behind when nobody waits any more.
	g.config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelTimeout}
	}
	g.config.RuntimeParams = runtimeParams(timeout)
	return nil
}

// cancelTimeout is how long a server may take to leave off.
const cancelTimeout = 3 * time.Second

// runtimeParams are the settings that count whatever the database's owner, or the
// administrator, may have set: nothing of theirs is called or means another thing, and the
// text of --init is read as it stands.
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
		// Roles are the same in all databases, whatever this one is for.
		"default_transaction_read_only": "off",
		"default_transaction_isolation": "read committed",
		// So that the server does not go on for longer than anybody waits.
		"statement_timeout": strconv.FormatInt(max(timeout.Milliseconds(), 1), 10),
	}
}

var errNoRDSIAM = errors.New("there is no role rds_iam: this is not an RDS or Aurora database, or IAM authentication was never enabled on it")

// notAToken is what pgx, which has no type for it, says where RequireAuth is not met.
const notAToken = "authentication method requirement"

// explain adds to an error what there is to do about it.
func (g *granting) explain(ctx context.Context, err error, e endpoint, timeout time.Duration) error {
	var certain decidedError
	var server *pgconn.PgError
	switch {
	case err == nil || errors.As(err, &certain):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return errors.New("told to end before it was done; nothing is changed")
	case !g.connected && text.Advice(g.unreached) != "":
		return text.WithAdvice(g.unreached)
	case !g.connected && ctx.Err() != nil:
		return fmt.Errorf("%s: no login within %s; check security groups and routes; --timeout is how long to wait", e.address(), timeout)
	case ctx.Err() != nil || pgconn.Timeout(err):
		return fmt.Errorf("%s: not done within %s, and nothing is changed; another session may hold a lock, or the file of --init take longer; --timeout is how long to wait", e.address(), timeout)
	case errors.As(err, &server):
		if advice := grantAdvice(ctx, server, e, g.admin); advice != "" {
			return fmt.Errorf("%s; %s", serverText(err), advice)
		}
		return errors.New(serverText(err))
	case g.admin.hasToken && strings.Contains(err.Error(), notAToken):
		return fmt.Errorf("the server asks %s for another password than a token, and got nothing: --admin-iam is for a member of rds_iam, on a database with IAM authentication enabled", g.admin.user)
	default:
		return err
	}
}

// grantAdvice is what to do about what the server says.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func grantAdvice(ctx context.Context, server *pgconn.PgError, e endpoint, admin administrator) string {
	if isCollision(server) {
		return "other sessions change roles at this very moment: run it again"
	}
	switch server.Code {
	case "28P01": // invalid_password
		return admin.advice(ctx)
	case "28000": // invalid_authorization_specification
		if admin.hasToken {
			return admin.advice(ctx)
		}
		return "check --admin-user; if " + admin.user + " has rds_iam itself, a token takes the password's place: --admin-iam"
	case "3D000": // invalid_catalog_name
		return "--database is which one to log in to"
	case "42501": // insufficient_privilege
		return admin.user + " needs CREATEROLE and may have to be of rds_superuser: --admin-user is who does it"
	case "25006": // read_only_sql_transaction
		return e.host + " leads to a reader: give the cluster's own endpoint"
	case "53200": // out_of_memory, of the table of locks
		return "so many tables at once take a larger max_locks_per_transaction (a parameter of the database)"
	case "57014": // query_canceled
		return "another session holds a lock; --timeout is how long to wait"
	default:
		return ""
	}
}

// serverText is what the server said, without what pgx says around it.
func serverText(err error) string {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return server.Message + " (" + server.Code + ")"
	}
	return err.Error()
}
