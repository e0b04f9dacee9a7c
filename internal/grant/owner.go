package grant

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// execAsOwner executes statements with the rights of owner, and reports whether that was
// permitted. If necessary, the administrator becomes a member of owner for the statements. No
// other session sees this membership, since it ends before the transaction. A lasting one would
// lock the administrator out if owner has rds_iam.
func execAsOwner(ctx context.Context, tx pgx.Tx, admin, owner string, statements ...string) (permitted bool, err error) {
	var hasRights, isMember bool
	// From PostgreSQL 16 on there may be one membership for each grantor.
	err = tx.QueryRow(ctx, `
		SELECT pg_has_role(a.oid, o.oid, 'usage'), EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = o.oid AND m.member = a.oid
			AND (m.grantor = a.oid OR current_setting('server_version_num')::int < 160000))
		FROM pg_roles a, pg_roles o WHERE a.rolname = session_user AND o.rolname = $1`, owner).Scan(&hasRights, &isMember)
	if err != nil {
		return false, err
	}
	if !hasRights && !isMember && !IsPredefined(owner) {
		join, leave := "GRANT "+quoteName(owner)+" TO "+quoteName(admin), "REVOKE "+quoteName(owner)+" FROM "+quoteName(admin)
		asMember := append(append([]string{join}, statements...), leave)
		if permitted, err := tryExec(ctx, tx, asMember); permitted || err != nil {
			return permitted, err
		}
	}
	return tryExec(ctx, tx, statements)
}

// tryExec executes all statements or none, and reports whether that was permitted.
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

// isForbidden reports whether a statement failed because the role must not execute it.
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
