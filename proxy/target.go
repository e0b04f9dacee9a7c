package proxy

import (
	"errors"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// Servers report these settings at a login since PostgreSQL 14.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC
const (
	inHotStandby    = "in_hot_standby"
	readOnlyDefault = "default_transaction_read_only"
	serverVersion   = "server_version" // always
)

// readOnlyQuery asks a server whether it takes no writes: it is a standby, or its
// own configuration makes transactions read-only. A role, a database or a client
// may wish for that on any instance, and gets it.
const readOnlyQuery = `SELECT pg_catalog.pg_is_in_recovery() OR EXISTS (
	SELECT FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only' AND setting = 'on'
	AND source NOT IN ('client', 'database', 'user', 'database user', 'session'))`

// checkTarget is the error of a server that takes no writes where one has to. It
// asks only where what the server has reported leaves it open: servers before
// 14 report nothing, and those in a read-only default do not say whose it is.
func (s *session) checkTarget(server *upstream, wish pgwire.StartupMessage) error {
	if !s.proxy.Writer {
		return nil
	}
	switch standby, readOnly := s.reported[inHotStandby], s.reported[readOnlyDefault]; {
	case standby == "on":
		return s.notWriter("is a standby")
	case standby == "off" && readOnly == "off":
		return nil
	case wish.IsPhysicalReplication(): // takes no queries, and reads
		return nil
	}
	readOnly, err := s.ask(server, readOnlyQuery)
	var refusal *pgwire.ServerError
	switch {
	case errors.As(err, &refusal):
		return pgwire.NewError(pgwire.WritableUnknown, err, s.proxy.target())
	case err != nil:
		return err
	case readOnly == "t":
		return s.notWriter("is read-only")
	case readOnly == "f":
		return nil
	default:
		return pgwire.NewError(pgwire.WritableInvalid, nil, readOnly)
	}
}

func (s *session) notWriter(why string) error {
	return pgwire.NewError(pgwire.NotWritable, nil, s.proxy.target(), why)
}

// ask has the server run a query that answers with one value, in a session that
// its client does not know of yet.
func (s *session) ask(server *upstream, query string) (value string, err error) {
	if _, err := server.Write(pgwire.Encode(&pgproto3.Query{String: query})); err != nil {
		return "", err
	}
	for {
		m, err := pgwire.ReadMessage(server)
		if err != nil {
			return "", err
		}
		switch m.Type() {
		case pgwire.ErrorResponse:
			return "", pgwire.NewServerError(m, false)
		case pgwire.DataRow:
			var row pgproto3.DataRow
			if err := row.Decode(m.Body()); err == nil && len(row.Values) == 1 {
				value = string(row.Values[0])
			}
		case pgwire.ReadyForQuery:
			return value, nil
		case pgwire.ParameterStatus, pgwire.NoticeResponse:
			if err := s.hold(m); err != nil {
				return "", err
			}
		}
	}
}
