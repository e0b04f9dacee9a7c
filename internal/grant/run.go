package grant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/internal/text"
)

const (
	// graceTimeout bounds each step that is completed even after a timeout or a signal: commit,
	// login, undo. Together they take less than the 30 seconds that ECS and Kubernetes leave
	// between SIGTERM and SIGKILL.
	graceTimeout = 8 * time.Second
	// collisionPause is the time for another session to end its transaction.
	collisionPause = 50 * time.Millisecond
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
	ending []string // roles whose password logins end, as GiveUpPassword permits
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
	if err != nil || !adminAtRisk || slices.Contains(r.GiveUpPassword, r.Admin.User) {
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
	r.result, r.undo, r.ending = Result{}, nil, nil
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
		help = fmt.Sprintf("; if \"%s\" cannot log in then, another administrator can run: %s", r.Admin.User, r.undoSQL())
	}
	return committedErrorf("connection lost during COMMIT (%s), the outcome is unknown; run the same command again%s", serverText(err), help)
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
	before, err := readLogins(ctx, tx)
	if err != nil {
		return false, err
	}
	if err := r.checkPasswordLogins(ctx, tx); err != nil {
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
	if err := r.checkOtherLogins(ctx, tx, before); err != nil {
		return false, err
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
		return fmt.Errorf("role \"%s\" exists and may not log in (NOLOGIN); if it should, an administrator can run: ALTER ROLE %s LOGIN", user, quoteName(user))
	case exists && isMember:
		r.addChange(`"%s" already has %s`, user, rdsIAM)
		return nil
	case exists:
		r.undo = append(r.undo, "REVOKE "+rdsIAM+" FROM "+quoteName(user))
	default:
		_, err = tx.Exec(ctx, createSQL(user))
		r.addChange(`created role "%s"`, user)
		r.undo = append(r.undo, r.undoCreateSQL(user))
	}
	if err != nil {
		return err
	}
	r.addChange(`granted %s to "%s"`, rdsIAM, user)
	_, err = tx.Exec(ctx, grantSQL(user))
	return err
}

// PasswordLoginsError is the refusal to end the password logins of users that exist.
type PasswordLoginsError struct{ logins []passwordLogins }

// passwordLogins are the roles that can no longer log in with a password once user has
// rds_iam: user itself and its members.
type passwordLogins struct {
	user  string
	roles []string
}

func (e *PasswordLoginsError) Error() string {
	var ends, users []string
	for _, l := range e.logins {
		ends = append(ends, fmt.Sprintf("granting %s to the existing user \"%s\" would end the password logins of %s", rdsIAM, l.user, quoteList(l.roles)))
		users = append(users, l.user)
	}
	return fmt.Sprintf("%s; nothing is changed. To keep an application running that logs in with a password, create another user for tokens: %s. To end these password logins: --give-up-password %s",
		strings.Join(ends, ", and "), text.PageURL("migrate.md"), text.ShellQuote(text.FlagList(users...)))
}

// checkPasswordLogins returns a *PasswordLoginsError if a password login would end that
// GiveUpPassword does not name.
func (r *grantRun) checkPasswordLogins(ctx context.Context, tx pgx.Tx) error {
	var refused PasswordLoginsError
	for _, user := range r.Users {
		roles, err := rolesLosingPassword(ctx, tx, user)
		switch {
		case err != nil:
			return err
		case len(roles) == 0:
		case slices.Contains(r.GiveUpPassword, user):
			r.ending = append(r.ending, roles...)
			r.addPasswordNote(roles)
		default:
			refused.logins = append(refused.logins, passwordLogins{user, roles})
		}
	}
	if len(refused.logins) > 0 {
		return &refused
	}
	return nil
}

// rolesLosingPassword returns the roles that could log in with a password until user gets
// rds_iam: user, if it exists, and its direct and indirect members. Whether they have a
// password only a superuser can see. The administrator is left out: verifyAdminLogin shows
// whether its login ends. The server compares members as is_member_of_role_nosuper does (acl.c),
// and not as pg_has_role, which is true for every superuser.
func rolesLosingPassword(ctx context.Context, tx pgx.Tx, user string) ([]string, error) {
	rows, err := tx.Query(ctx, `
		WITH RECURSIVE token_only(oid) AS (
			SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $2
			UNION SELECT m.member FROM pg_catalog.pg_auth_members m JOIN token_only t ON m.roleid = t.oid
		), affected(oid) AS (
			SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1
			UNION SELECT m.member FROM pg_catalog.pg_auth_members m JOIN affected a ON m.roleid = a.oid
		)
		SELECT r.rolname::text FROM pg_catalog.pg_roles r JOIN affected USING (oid)
		WHERE r.rolcanlogin AND (r.rolname = $1 OR r.rolname <> session_user) AND r.oid NOT IN (SELECT oid FROM token_only)
		ORDER BY r.rolname <> $1, r.rolname`, user, rdsIAM)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// quoteList returns names in quotes, separated by commas.
func quoteList(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = `"` + name + `"`
	}
	return strings.Join(quoted, ", ")
}

func (r *grantRun) addChange(format string, args ...any) {
	r.result.Changes = append(r.result.Changes, fmt.Sprintf(format, args...))
}

func (r *grantRun) addNote(format string, args ...any) {
	r.result.Notes = append(r.result.Notes, fmt.Sprintf(format, args...))
}

func (r *grantRun) addPasswordNote(roles []string) {
	r.addNote("password logins end for %s: from now on only tokens are accepted", quoteList(roles))
}

// undoCreateSQL keeps a role that other objects may depend on. Without rds_iam it cannot log in.
func (r *grantRun) undoCreateSQL(user string) string {
	if r.Level != nil || r.Script != nil {
		return "REVOKE " + rdsIAM + " FROM " + quoteName(user)
	}
	return "DROP ROLE " + quoteName(user)
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
		return committedErrorf("administrator \"%s\" may be locked out: its test login failed (%s), and the grants could not be undone (%s); another administrator can run: %s",
			r.Admin.User, serverText(err), serverText(undoErr), r.undoSQL())
	}
	var server *pgconn.PgError
	if !errors.As(err, &server) || !isAuthFailure(server) {
		return committedErrorf("%s: the test login of administrator \"%s\" failed (%s); run the same command again", r.undoneText(), r.Admin.User, serverText(err))
	}
	return committedErrorf("%s: administrator \"%s\" could no longer log in with its password (%s), since it is a member of a role that got %s; remove it from that role, use an administrator that logs in with a token (--admin-iam), or end its password logins with --give-up-password %s",
		r.undoneText(), r.Admin.User, serverText(err), rdsIAM, text.ShellQuote(text.FlagList(r.Admin.User)))
}

// undoneText states what undoSQL has undone.
func (r *grantRun) undoneText() string {
	if r.Level != nil || r.Script != nil {
		return "the grants of " + rdsIAM + " were undone, the other changes were not"
	}
	return "all changes were undone"
}
