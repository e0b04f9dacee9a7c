package upstream

import (
	"errors"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// Settings that servers report at a login, the first two since PostgreSQL 14.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC
const (
	InHotStandby    = "in_hot_standby"
	ReadOnlyDefault = "default_transaction_read_only"
	ServerVersion   = "server_version"
)

// readOnlyQuery returns true from a server that accepts no writes: it is a standby, or its
// own configuration makes transactions read-only. A role, a database or a client may set
// that on any instance; such sessions are allowed.
const readOnlyQuery = `SELECT pg_catalog.pg_is_in_recovery() OR EXISTS (
	SELECT FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only' AND setting = 'on'
	AND source NOT IN ('client', 'database', 'user', 'database user', 'session'))`

// CheckWritable returns an error if the server accepts no writes. It queries the server only
// if the reported settings leave that open: servers before 14 report none, and a read-only
// default may be that of the session alone. Notices and settings that come with the answer
// are added to the result. The error is as that of Login.
func CheckWritable(conn *Conn, r *LoginResult) error {
	switch standby, readOnly := r.Parameters[InHotStandby], r.Parameters[ReadOnlyDefault]; {
	case standby == "on":
		return pgwire.NewError(pgwire.NotWritable, nil, conn.Name, "is a standby")
	case standby == "off" && readOnly == "off":
		return nil
	case r.replication: // takes no queries, and reads
		return nil
	}
	readOnly, err := r.query(conn, readOnlyQuery)
	var server *pgwire.ServerError
	switch {
	case errors.As(err, &server) && !server.IsShutdown():
		return pgwire.NewError(pgwire.WritableUnknown, err, conn.Name)
	case err != nil:
		return err
	case readOnly == "t":
		return pgwire.NewError(pgwire.NotWritable, nil, conn.Name, "is read-only")
	case readOnly == "f":
		return nil
	default:
		return pgwire.NewError(pgwire.WritableInvalid, nil, readOnly)
	}
}

// query runs a query that returns one value, before the startup reply is sent.
func (r *LoginResult) query(conn *Conn, query string) (value string, err error) {
	if _, err := conn.Write(pgwire.Encode(&pgproto3.Query{String: query})); err != nil {
		return "", err
	}
	for {
		m, err := pgwire.ReadMessage(conn)
		if err != nil {
			return "", err
		}
		switch m.Type() {
		case pgwire.ErrorResponse:
			return "", pgwire.NewServerError(m, pgwire.Authenticated)
		case pgwire.DataRow:
			var row pgproto3.DataRow
			if err := row.Decode(m.Body()); err == nil && len(row.Values) == 1 {
				value = string(row.Values[0])
			}
		case pgwire.ReadyForQuery:
			return value, nil
		case pgwire.ParameterStatus, pgwire.NoticeResponse:
			if err := r.bufferMessage(m); err != nil {
				return "", err
			}
		}
	}
}
