package grant

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// graceTimeout bounds each step that is completed even after a timeout or a signal: commit,
	// login, undo. Together they take less than the 30 seconds that ECS and Kubernetes leave
	// between SIGTERM and SIGKILL.
	graceTimeout = 8 * time.Second
	// collisionPause is the time for another session to end its transaction.
	collisionPause = 50 * time.Millisecond
	// maxNoted is the maximum number of names in a note.
	maxNoted = 10
)

// lockKey is the key of the advisory lock that serializes runs, so that both do not create what
// is missing. It applies to one database: see isCollision. It is "iamproxy" in ASCII.
const lockKey = 0x69616d70726f7879

// sessionSetupSQL changes settings that only some versions have. The session idles while the
// administrator's login is verified, and the administrator must not become a member of the
// roles it creates more than it has to.
const sessionSetupSQL = `
	SELECT pg_catalog.set_config(name, CASE name WHEN 'idle_session_timeout' THEN '0' ELSE '' END, false)
	FROM pg_catalog.pg_settings WHERE name IN ('idle_session_timeout', 'createrole_self_grant')`

// grantRun is one run of a Grant.
type grantRun struct {
	*Grant
	config *pgx.ConnConfig

	connected  bool  // at least once
	connectErr error // of the last attempt

	result Result
	undo   []string // SQL
}

// Run executes the grants in one transaction. Without an error, all of it is committed.
func (g *Grant) Run(ctx context.Context) (Result, error) {
	r := &grantRun{Grant: g}
	if err := r.configure(); err != nil {
		return Result{}, err
	}
	if err := r.run(ctx); err != nil {
		return Result{}, r.explain(ctx, err)
	}
	return r.result, nil
}

func (r *grantRun) run(ctx context.Context) error {
	conn, err := r.connect(ctx)
	if err != nil {
		return err
	}
	r.connected = true
	defer func() {
		ctx, cancel := graceContext(ctx)
		defer cancel()
		conn.Close(ctx)
	}()
	// The lock is held until the session ends: another run must not rely on what is undone.
	if _, err := conn.Exec(ctx, "SELECT pg_catalog.pg_advisory_lock($1)", int64(lockKey)); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, sessionSetupSQL); err != nil {
		return err
	}
	adminAtRisk, err := r.applyWithRetry(ctx, conn)
	if err != nil || !adminAtRisk || r.GiveUpPassword {
		return err
	}
	return r.verifyAdminLogin(ctx, conn)
}

// connect logs in with the current password. A rejected one may have been rotated.
func (r *grantRun) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, r.config)
	var server *pgconn.PgError
	if r.Admin.Refresh == nil || !errors.As(err, &server) || !isAuthFailure(server) {
		return conn, err
	}
	password, refreshErr := r.Admin.Refresh(ctx)
	if refreshErr != nil || password == r.config.Password {
		return nil, err // the more informative error
	}
	r.config.Password = password
	return pgx.ConnectConfig(ctx, r.config)
}

// isAuthFailure reports whether the server rejected a login: class 28, invalid authorization
// specification.
func isAuthFailure(server *pgconn.PgError) bool { return strings.HasPrefix(server.Code, "28") }

// graceContext returns a context for a step that must be completed even if ctx is done.
func graceContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), graceTimeout)
}

// applyWithRetry repeats apply while other sessions change the same roles.
func (r *grantRun) applyWithRetry(ctx context.Context, conn *pgx.Conn) (adminAtRisk bool, err error) {
	for {
		adminAtRisk, err = r.apply(ctx, conn)
		var server *pgconn.PgError
		if !errors.As(err, &server) || !isCollision(server) {
			return adminAtRisk, err
		}
		select {
		case <-time.After(collisionPause):
		case <-ctx.Done():
			return false, err
		}
	}
}

// isCollision reports whether another session changed the same roles at the same time, for
// example a run in another database, to which lockKey does not apply.
func isCollision(server *pgconn.PgError) bool {
	switch server.Code {
	case "23505", "42710", "40P01", "42P01": // unique_violation, duplicate_object, deadlock_detected, undefined_table
		return true
	case "XX000": // internal_error: "tuple concurrently updated" or "deleted", of heapam.c
		return server.Routine == "simple_heap_update" || server.Routine == "simple_heap_delete"
	default:
		return false
	}
}

// apply executes everything in one transaction. It reports whether the administrator, logged in
// with a password, may now need a token. Membership in rds_iam alone is no evidence:
// from PostgreSQL 16 on the administrator has to be a member to grant the role.
func (r *grantRun) apply(ctx context.Context, conn *pgx.Conn) (adminAtRisk bool, err error) {
	r.result, r.undo = Result{}, nil
	tx, err := conn.Begin(ctx)
	if err != nil {
		return false, err
	}
	adminAtRisk, err = r.applyAll(ctx, tx)
	if err == nil {
		err = ctx.Err() // the last chance to roll back
	}
	ctx, cancel := graceContext(ctx)
	defer cancel()
	if err != nil {
		_ = tx.Rollback(ctx) // the first error is the one to report
		return false, err
	}
	if err = tx.Commit(ctx); err != nil {
		return false, r.explainCommit(err, adminAtRisk)
	}
	return adminAtRisk, nil
}

// explainCommit returns the error of a failed commit. Unless the server sent an error, the
// transaction may have been committed.
func (r *grantRun) explainCommit(err error, adminAtRisk bool) error {
	var server *pgconn.PgError
	if errors.As(err, &server) && server.SeverityUnlocalized == "ERROR" { // not FATAL
		return err
	}
	help := ""
	if adminAtRisk {
		help = "; if " + r.Admin.User + " is locked out then, as another one: " + r.undoSQL()
	}
	return committedErrorf("the connection broke at the very end (%s), and whether it is done is not known: run it again%s", serverText(err), help)
}

// committedError is a failure at or after COMMIT. Its text states what was changed.
type committedError struct{ error }

func committedErrorf(format string, args ...any) error {
	return committedError{fmt.Errorf(format, args...)}
}

// undoSQL returns the SQL that lets the administrator log in again. Sent as one query, it is one
// transaction. If no user was granted rds_iam, the script granted it to the administrator.
func (r *grantRun) undoSQL() string {
	if len(r.undo) == 0 {
		return "REVOKE " + rdsIAM + " FROM " + quoteName(r.Admin.User)
	}
	return strings.Join(r.undo, "; ")
}

// applyAll creates the users, grants the privileges, and runs the script.
func (r *grantRun) applyAll(ctx context.Context, tx pgx.Tx) (adminAtRisk bool, err error) {
	if _, err := hasRDSIAM(ctx, tx); err != nil { // the role does not exist
		return false, err
	}
	for _, user := range r.Users {
		if err := r.applyUser(ctx, tx, user); err != nil {
			return false, err
		}
	}
	if r.Level != nil {
		if err := r.applyPrivileges(ctx, tx); err != nil {
			return false, err
		}
	}
	if r.Script != nil {
		if err := r.runScript(ctx, tx); err != nil {
			return false, err
		}
	}
	isMember, err := hasRDSIAM(ctx, tx)
	return isMember && !r.Admin.HasToken && (len(r.undo) > 0 || r.Script != nil), err
}

// hasRDSIAM reports whether the administrator is a member of rds_iam, directly or indirectly.
func hasRDSIAM(ctx context.Context, tx pgx.Tx) (isMember bool, err error) {
	err = tx.QueryRow(ctx, "SELECT pg_catalog.pg_has_role(session_user, oid, 'member') FROM pg_catalog.pg_roles WHERE rolname = $1", rdsIAM).Scan(&isMember)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, errNoRDSIAM
	}
	return isMember, err
}

// applyUser creates a user unless it exists, and grants it rds_iam.
func (r *grantRun) applyUser(ctx context.Context, tx pgx.Tx, user string) error {
	var exists, canLogin, isMember bool
	err := tx.QueryRow(ctx, `
		SELECT count(*) > 0, coalesce(bool_or(u.rolcanlogin), false), coalesce(bool_or(m.member IS NOT NULL), false)
		FROM pg_catalog.pg_roles u
		LEFT JOIN pg_catalog.pg_roles r ON r.rolname = $2
		LEFT JOIN pg_catalog.pg_auth_members m ON m.roleid = r.oid AND m.member = u.oid
		WHERE u.rolname = $1`, user, rdsIAM).Scan(&exists, &canLogin, &isMember)
	switch {
	case err != nil:
		return err
	case exists && !canLogin: // possibly on purpose
		return fmt.Errorf("%s is there and may not log in (NOLOGIN); if it should, ALTER ROLE %s LOGIN", user, quoteName(user))
	case exists && isMember:
		r.addChange("%s already has %s", user, rdsIAM)
		return nil
	case exists:
		r.addNote("%s was there already: if it has a password, that is of no use any more, and it logs in with tokens only", user)
		err = r.noteMembers(ctx, tx, user)
		r.undo = append(r.undo, "REVOKE "+rdsIAM+" FROM "+quoteName(user))
	default:
		_, err = tx.Exec(ctx, createSQL(user))
		r.addChange("created role %s", user)
		r.undo = append(r.undo, r.undoCreateSQL(user))
	}
	if err != nil {
		return err
	}
	r.addChange("granted %s to %s", rdsIAM, user)
	_, err = tx.Exec(ctx, grantSQL(user))
	return err
}

func (r *grantRun) addChange(format string, args ...any) {
	r.result.Changes = append(r.result.Changes, fmt.Sprintf(format, args...))
}

func (r *grantRun) addNote(format string, args ...any) {
	r.result.Notes = append(r.result.Notes, fmt.Sprintf(format, args...))
}

// undoCreateSQL keeps a role that other objects may depend on. Without rds_iam it cannot log in.
func (r *grantRun) undoCreateSQL(user string) string {
	if r.Level != nil || r.Script != nil {
		return "REVOKE " + rdsIAM + " FROM " + quoteName(user)
	}
	return "DROP ROLE " + quoteName(user)
}

// noteMembers adds a note about the members of user, which get rds_iam with it. Only a
// superuser can see whether they have passwords.
func (r *grantRun) noteMembers(ctx context.Context, tx pgx.Tx, user string) error {
	rows, err := tx.Query(ctx, `
		SELECT rolname::text FROM pg_catalog.pg_roles
		WHERE rolcanlogin AND rolname <> $1 AND pg_catalog.pg_has_role(oid, $1::name, 'member') AND NOT pg_catalog.pg_has_role(oid, $2::name, 'member')
		ORDER BY rolname`, user, rdsIAM)
	if err != nil {
		return err
	}
	members, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(members) == 0 {
		return err
	}
	if more := len(members) - maxNoted; more > 0 {
		members = append(members[:maxNoted], fmt.Sprintf("and %d more", more))
	}
	r.addNote("members of %s log in with tokens only from now on: %s", user, strings.Join(members, ", "))
	return nil
}

// verifyAdminLogin logs in as the administrator again, and undoes the grants if that fails.
//
// A member of a role that has rds_iam has it, too, and must log in with a token. From
// PostgreSQL 16 on the creator of a role becomes a member of it, in a way that a server may or
// may not count here. Only a login shows it.
func (r *grantRun) verifyAdminLogin(ctx context.Context, conn *pgx.Conn) error {
	login, cancel := graceContext(ctx)
	defer cancel()
	second, err := r.connect(login)
	if err == nil {
		_ = second.Close(login)
		return nil
	}
	ctx, cancel = graceContext(ctx)
	defer cancel()
	if _, undoErr := conn.Exec(ctx, r.undoSQL()); undoErr != nil {
		return committedErrorf("this may have locked out the administrator, who could not log in once more (%s), and could not be undone (%s); as another one: %s", serverText(err), serverText(undoErr), r.undoSQL())
	}
	var server *pgconn.PgError
	if !errors.As(err, &server) || !isAuthFailure(server) {
		return committedErrorf("%s, since it is not certain that the administrator can still log in (%s): run it again", r.undoneText(), serverText(err))
	}
	return committedErrorf("%s, since the administrator could not log in any more (%s): it is a member of a role that got %s; remove it from that, or let one do it who logs in with a token anyway (--admin-iam), or say that it may give up its password (--give-up-password %s)",
		r.undoneText(), serverText(err), rdsIAM, r.Admin.User)
}

// undoneText states what undoSQL has undone.
func (r *grantRun) undoneText() string {
	if r.Level != nil || r.Script != nil {
		return "the grants of " + rdsIAM + " are undone, the rest is not"
	}
	return "undone"
}
