package main

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// execAs runs statements with the rights of owner, which the administrator may have to
// become a member of for the time, and reports whether it was permitted. A membership
// that stayed would lock it out where owner has rds_iam; this one nobody sees, since it
// is over before the transaction is.
func execAs(ctx context.Context, tx pgx.Tx, admin, owner string, statements ...string) (permitted bool, err error) {
	var hasRights, isMember bool
	// From PostgreSQL 16 on there may be one membership for each who grants it.
	err = tx.QueryRow(ctx, `
		SELECT pg_has_role(a.oid, o.oid, 'usage'), EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = o.oid AND m.member = a.oid
			AND (m.grantor = a.oid OR current_setting('server_version_num')::int < 160000))
		FROM pg_roles a, pg_roles o WHERE a.rolname = session_user AND o.rolname = $1`, owner).Scan(&hasRights, &isMember)
	if err != nil {
		return false, err
	}
	if !hasRights && !isMember && !isPredefined(owner) {
		join, leave := "GRANT "+quoteName(owner)+" TO "+quoteName(admin), "REVOKE "+quoteName(owner)+" FROM "+quoteName(admin)
		around := append(append([]string{join}, statements...), leave)
		if permitted, err := tryExec(ctx, tx, around); permitted || err != nil {
			return permitted, err
		}
	}
	return tryExec(ctx, tx, statements)
}

// tryExec runs all or none, and reports whether it was permitted.
func tryExec(ctx context.Context, tx pgx.Tx, statements []string) (permitted bool, err error) {
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { // a savepoint
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
	var server *pgconn.PgError
	if errors.As(err, &server) && isForbidden(server) {
		return false, nil
	}
	return err == nil, err
}

// isForbidden is about what the administrator may not do, or nobody.
func isForbidden(server *pgconn.PgError) bool {
	switch server.Code {
	case "42501", // insufficient_privilege
		"0LP01", // invalid_grant_operation: it would be a member of itself
		"0A000": // feature_not_supported: a role that has no members
		return true
	default:
		return false
	}
}
