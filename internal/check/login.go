package check

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/retry"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

// login logs in. The connection stays open for the steps after it.
func (r *run) login(ctx context.Context) result {
	conn, err := r.connect(ctx)
	if err != nil {
		return r.explain(err)
	}
	r.conn, r.seen.login = conn, accepted
	found := fmt.Sprintf("logged in to database %q, PostgreSQL %s", r.Endpoint.Database, conn.ParameterStatus(upstream.ServerVersion))
	if role, err := r.query(ctx, "SELECT NULLIF(current_user, session_user)"); err == nil && role != "" { // as ALTER ROLE ... SET role makes it
		found += fmt.Sprintf(", current role %q", role)
	}
	return ok(found)
}

// connect attempts to log in until an attempt succeeds or another one cannot, as the proxy
// does. The error is the most specific one of all attempts.
func (r *run) connect(ctx context.Context) (*pgconn.PgConn, error) {
	policy := new(retry.Controller).Begin(r.Endpoint.User, stepTimeout)
	defer policy.End()
	var lastError error
	for {
		if err := policy.Wait(ctx); err != nil {
			return nil, retry.MoreSpecificError(lastError, err)
		}
		conn, token, err := r.attempt(ctx)
		if err == nil {
			return conn, nil
		}
		lastError = retry.MoreSpecificError(lastError, err)
		pause, again := policy.Next(err, retry.Replace(ctx, r.Tokens, r.Endpoint.User, token, err))
		if !again || ctx.Err() != nil {
			return nil, lastError
		}
		if err := retry.Sleep(ctx, pause); err != nil {
			return nil, retry.MoreSpecificError(lastError, err)
		}
	}
}

// attempt connects and logs in once, with the token that it returns.
func (r *run) attempt(ctx context.Context) (conn *pgconn.PgConn, token string, err error) {
	if token, err = r.token(ctx); err != nil {
		return nil, "", err
	}
	server, err := r.Dialer.Connect(ctx)
	if err != nil {
		return nil, token, err
	}
	stop := context.AfterFunc(ctx, func() { server.SetDeadline(netconn.LongAgo) })
	result, err := upstream.Login(server, r.startupMessage(), token)
	if !stop() {
		err = cmp.Or(err, ctx.Err())
	}
	if err == nil {
		conn, err = newPgConn(server, result)
	}
	if err != nil {
		server.Close()
		return nil, token, err
	}
	return conn, token, nil
}

func (r *run) token(ctx context.Context) (string, error) {
	token, err := r.Tokens.Token(ctx, r.Endpoint.User)
	if err != nil {
		return "", pgwire.NewTokenError(r.Endpoint.User, err)
	}
	return token, nil
}

func (r *run) startupMessage() pgwire.StartupMessage {
	return pgwire.StartupMessage{
		Version: pgproto3.ProtocolVersion30,
		Parameters: []pgwire.Parameter{
			{Name: "user", Value: r.Endpoint.User},
			{Name: "database", Value: r.Endpoint.Database},
			{Name: "application_name", Value: "iamproxy check"},
		},
	}
}

// newPgConn returns a connection for queries on server, which is logged in.
func newPgConn(server *upstream.Conn, login *upstream.LoginResult) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig("host=iamproxy user=unset sslmode=disable") // server has TLS
	if err != nil {
		return nil, err
	}
	server.SetDeadline(time.Time{}) // pgx sets its own
	parameters := make(map[string]string)
	maps.Copy(parameters, login.Parameters)
	return pgconn.Construct(&pgconn.HijackedConn{
		Conn:              server,
		ParameterStatuses: parameters,
		TxStatus:          'I',
		Config:            config,
	})
}
