package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/net/proxy"

	"github.com/iamproxy/iamproxy/forward"
	"github.com/iamproxy/iamproxy/tls"
)

// adminConfig is how the administrator connects: over TLS that is verified for the
// endpoint's name, or not at all. If dial is nil, the address is dialled.
func adminConfig(e endpoint, dial pgconn.DialFunc, admin administrator, roots *x509.CertPool, timeout time.Duration) (*pgx.ConnConfig, error) {
	forgetLibpq() // which says more than is replaced below
	config, err := pgx.ParseConfig("host=unset user=unset sslmode=disable")
	if err != nil {
		return nil, err
	}
	host, port := e.host, e.port
	if e.via != "" && dial == nil {
		if host, port, err = net.SplitHostPort(e.via); err != nil {
			return nil, err
		}
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	config.Host, config.Port = host, uint16(number)
	config.User, config.Password, config.Database = admin.user, admin.password, e.database
	if admin.hasToken {
		config.RequireAuth = "password" // in clear text, as RDS asks for a token
	}
	config.TLSConfig = tls.Upstream(e.host, roots)
	if e.sslnegotiation == "direct" {
		config.SSLNegotiation = "direct"
		config.TLSConfig.NextProtos = []string{"postgresql"}
	}
	if e.socks != nil {
		if dial, err = throughSOCKS(e); err != nil {
			return nil, err
		}
	}
	if dial != nil {
		config.DialFunc = dial
		config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil } // not from here
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

// throughSOCKS has the proxy resolve the name.
func throughSOCKS(e endpoint) (pgconn.DialFunc, error) {
	var login *proxy.Auth
	if e.socks.User != "" {
		login = &proxy.Auth{User: e.socks.User, Password: e.socks.Password}
	}
	through, err := proxy.SOCKS5("tcp", e.socks.Address, login, &net.Dialer{})
	if err != nil {
		return nil, err
	}
	return through.(proxy.ContextDialer).DialContext, nil
}

var errNoRDSIAM = errors.New("there is no role rds_iam: this is not an RDS or Aurora database, or IAM authentication was never enabled on it")

// notAToken is what pgx, which has no type for it, says where RequireAuth is not met.
const notAToken = "authentication method requirement"

// explainGrant adds to an error what there is to do about it.
func explainGrant(ctx context.Context, err error, e endpoint, admin administrator, timeout time.Duration) error {
	var server *pgconn.PgError
	var connecting *pgconn.ConnectError
	var way *forward.Error
	switch {
	case errors.As(err, &way):
		return fmt.Errorf("cannot connect to %s (via %s): %w; %s", e.address(), e.viaName(), way, way.Hint)
	case errors.As(err, &server):
		if advice := grantAdvice(ctx, server, e, admin); advice != "" {
			return fmt.Errorf("%s; %s", serverText(err), advice)
		}
		return errors.New(serverText(err))
	case errors.Is(err, context.Canceled):
		return errors.New("told to end before it was done; nothing is changed")
	case pgconn.Timeout(err), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: not done within %s; check security groups and routes, and whether another session holds a lock; --timeout is how long to wait", e.address(), timeout)
	case !errors.As(err, &connecting):
		return err
	case admin.hasToken && strings.Contains(err.Error(), notAToken):
		return fmt.Errorf("the server asks %s for another password than a token, and got nothing: --admin-iam is for a member of rds_iam, on a database with IAM authentication enabled", admin.user)
	}
	var (
		name    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		dns     *net.DNSError
	)
	cause := connecting.Unwrap()
	switch {
	case errors.As(err, &name):
		return fmt.Errorf("what answers has no certificate for %s; ENDPOINT must be the name that AWS gave the database, and a name of your own goes into --via", e.host)
	case errors.As(err, &unknown):
		return fmt.Errorf("the certificate of %s is not trusted: %w; the built-in roots are those of RDS and of the system, --ca-file names others", e.host, unknown)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("the certificate of %s is not valid now: %w; check this machine's clock; if it is right, the database needs a new certificate", e.host, invalid)
	case errors.As(err, &invalid):
		return fmt.Errorf("the certificate of %s is not accepted: %w; the database needs another certificate", e.host, invalid)
	case errors.As(err, &dns):
		return fmt.Errorf("cannot resolve: %w; check the name, and that this host uses the DNS of the database's network", dns)
	default:
		return fmt.Errorf("cannot connect to %s: %w; check that the database runs, and that security groups and routes let this host reach it", e.address(), cause)
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
