package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
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
func (s *session) checkTarget(server *upstream, wish startup) error {
	if !s.proxy.Writer {
		return nil
	}
	switch standby, readOnly := s.reported[inHotStandby], s.reported[readOnlyDefault]; {
	case standby == "on":
		return s.notWriter("is a standby")
	case standby == "off" && readOnly == "off":
		return nil
	case isPhysicalReplication(wish.get("replication")): // takes no queries, and reads
		return nil
	}
	readOnly, err := s.ask(server, readOnlyQuery)
	var refusal *serverError
	switch {
	case errors.As(err, &refusal):
		return &fatalError{
			Code:    connectionFailure,
			Message: "cannot tell whether " + s.proxy.target() + " takes writes",
			Hint:    "the user has to be allowed to read pg_settings; with target=any nobody asks",
			Err:     err,
		}
	case err != nil:
		return err
	case readOnly == "t":
		return s.notWriter("is read-only")
	case readOnly == "f":
		return nil
	default:
		return &fatalError{Code: protocolViolation, Message: fmt.Sprintf("the server answered %q when asked whether it takes writes", readOnly)}
	}
}

func (s *session) notWriter(why string) error {
	return &fatalError{
		Code:    readOnlyTransaction,
		Message: "no instance that takes writes: " + s.proxy.target() + " " + why,
		Hint:    "after a failover it is looked for again until --connect-timeout; for a session on a reader use the reader endpoint, or target=any",
	}
}

func isNotWriter(err error) bool {
	var known *fatalError
	return errors.As(err, &known) && known.Code == readOnlyTransaction
}

// isPhysicalReplication is about values that are neither a boolean's no nor
// "database", which is a connection for logical replication.
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-REPLICATION
func isPhysicalReplication(value string) bool {
	value = strings.ToLower(value)
	return value != "" && !slices.Contains([]string{"database", "false", "off", "no", "0", "f", "n"}, value)
}

// ask has the server run a query that answers with one value, in a session that
// its client does not know of yet.
func (s *session) ask(server *upstream, query string) (value string, err error) {
	if _, err := server.Write(encode(&pgproto3.Query{String: query})); err != nil {
		return "", err
	}
	for {
		m, err := readMessage(server)
		if err != nil {
			return "", err
		}
		switch m.kind() {
		case errorResponse:
			return "", newServerError(m, false)
		case dataRow:
			var row pgproto3.DataRow
			if err := row.Decode(m.body()); err == nil && len(row.Values) == 1 {
				value = string(row.Values[0])
			}
		case readyForQuery:
			return value, nil
		case parameterStatus, noticeResponse:
			if err := s.hold(m); err != nil {
				return "", err
			}
		}
	}
}
