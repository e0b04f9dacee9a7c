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

	"github.com/iamproxy/iamproxy/internal/wording"
	"github.com/iamproxy/iamproxy/proxy"
)

// adminConfig is how the administrator connects: over TLS that is verified for the
// endpoint's name, or not at all.
func adminConfig(server *proxy.Proxy, admin administrator, database string, timeout time.Duration) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig("host=iamproxy user=unset sslmode=disable") // TLS is the server's matter
	if err != nil {
		return nil, err
	}
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return server.Connect(ctx) }
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil } // and so are names
	config.User, config.Password, config.Database = admin.user, admin.password, database
	if admin.hasToken {
		config.RequireAuth = "password" // in clear text, as RDS asks for a token
	}
	config.RuntimeParams = map[string]string{
		"application_name": "iamproxy grant",
		// What the database's owner may have set would have the administrator call
		// functions of theirs, and would have names mean others.
		"search_path":     "pg_catalog",
		"client_encoding": "UTF8",
		// Roles are the same in all databases, whatever this one is for.
		"default_transaction_read_only": "off",
		"default_transaction_isolation": "read committed",
		// So that the server does not go on for longer than anybody waits.
		"statement_timeout": strconv.FormatInt(max(timeout.Milliseconds(), 1), 10),
	}
	return config, nil
}

var errNoRDSIAM = errors.New("there is no role rds_iam: this is not an RDS or Aurora database, or IAM authentication was never enabled on it")

// notAToken is what pgx, which has no type for it, says where RequireAuth is not met.
const notAToken = "authentication method requirement"

// explainGrant adds to an error what there is to do about it.
func explainGrant(ctx context.Context, err error, e endpoint, admin administrator, timeout time.Duration) error {
	var server *pgconn.PgError
	var unreached interface {
		error
		Advice() string
	}
	switch {
	case errors.As(err, &unreached):
		return wording.WithAdvice(unreached)
	case errors.As(err, &server):
		if advice := grantAdvice(ctx, server, e, admin); advice != "" {
			return fmt.Errorf("%s; %s", serverText(err), advice)
		}
		return errors.New(serverText(err))
	case errors.Is(err, context.Canceled):
		return errors.New("told to end before it was done; nothing is changed")
	case pgconn.Timeout(err), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: not done within %s; check security groups and routes, and whether another session holds a lock; --timeout is how long to wait", e.address(), timeout)
	case admin.hasToken && strings.Contains(err.Error(), notAToken):
		return fmt.Errorf("the server asks %s for another password than a token, and got nothing: --admin-iam is for a member of rds_iam, on a database with IAM authentication enabled", admin.user)
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
