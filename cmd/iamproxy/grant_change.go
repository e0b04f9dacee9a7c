package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// finishTimeout bounds each of the steps that are taken even when the time is up or a
// signal came: commit, login, undo. Together they take less than the 30 seconds that
// ECS and Kubernetes leave between SIGTERM and SIGKILL.
const finishTimeout = 8 * time.Second

// collisionPause is for the other session to end its transaction.
const collisionPause = 50 * time.Millisecond

// maxNoted is how many names one note has.
const maxNoted = 10

// granting is one run against the database.
type granting struct {
	config  *pgx.ConnConfig
	admin   administrator
	users   []string
	level   *level   // nil: no privileges
	schemas []string // for level and init
	init    *initFile
	// givesUpPassword is for an administrator that may be locked out with its password.
	givesUpPassword bool

	connected bool  // once, at least
	unreached error // of the last attempt to connect

	done  []string // what is to be told
	notes []string // what may be missed
	undo  []string // SQL
}

// grantLock keeps two runs apart, each of which would find that something is
// missing. It is for one database: see isCollision. The name of the program in ASCII.
const grantLock = 0x69616d70726f7879

// settleSQL is for settings that not all versions have. The session idles during the login
// that decides whether it is still needed; and the administrator is not to become a member
// of the roles that it creates, beyond what it has to.
const settleSQL = `
	SELECT pg_catalog.set_config(name, CASE name WHEN 'idle_session_timeout' THEN '0' ELSE '' END, false)
	FROM pg_catalog.pg_settings WHERE name IN ('idle_session_timeout', 'createrole_self_grant')`

func (g *granting) run(ctx context.Context) error {
	conn, err := g.connect(ctx)
	if err != nil {
		return err
	}
	g.connected = true
	defer func() {
		ctx, cancel := finishing(ctx)
		defer cancel()
		conn.Close(ctx)
	}()
	// Until the end of the session, so that nobody takes for granted what is undone.
	if _, err := conn.Exec(ctx, "SELECT pg_catalog.pg_advisory_lock($1)", int64(grantLock)); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, settleSQL); err != nil {
		return err
	}
	endangered, err := g.changeAlone(ctx, conn)
	switch {
	case err != nil || !endangered:
		return err
	case g.givesUpPassword:
		return nil
	default:
		return g.confirm(ctx, conn)
	}
}

// connect logs in with what the administrator's password is now. One that is refused may
// have been replaced just before.
func (g *granting) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, g.config)
	var refused *pgconn.PgError
	if g.admin.renew == nil || !errors.As(err, &refused) || !isRefusal(refused) {
		return conn, err
	}
	password, failed := g.admin.renew(ctx)
	if failed != nil || password == g.config.Password {
		return nil, err // which tells more
	}
	g.config.Password = password
	return pgx.ConnectConfig(ctx, g.config)
}

// isRefusal reports whether the server did not let somebody in as that user: class 28,
// invalid authorization specification.
func isRefusal(server *pgconn.PgError) bool { return strings.HasPrefix(server.Code, "28") }

// finishing is a context for what must not be left half done.
func finishing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
}

// changeAlone changes until nobody else does at the same time.
func (g *granting) changeAlone(ctx context.Context, conn *pgx.Conn) (endangered bool, err error) {
	for {
		endangered, err = g.change(ctx, conn)
		var server *pgconn.PgError
		if !errors.As(err, &server) || !isCollision(server) {
			return endangered, err
		}
		select {
		case <-time.After(collisionPause):
		case <-ctx.Done():
			return false, err
		}
	}
}

// isCollision is about what another session did in between, from another database say,
// where grantLock keeps it from nothing.
func isCollision(server *pgconn.PgError) bool {
	switch server.Code {
	case "23505", "42710", "40P01", "42P01": // unique_violation, duplicate_object, deadlock_detected, undefined_table
		return true
	case "XX000": // internal_error
		return strings.HasPrefix(server.Message, "tuple concurrently ")
	default:
		return false
	}
}

// change does it all in one transaction. It reports whether the administrator, who came in
// with a password, may have become one who has to have a token in this way. That it is a
// member of rds_iam says little: from PostgreSQL 16 on it has to be one to grant it.
func (g *granting) change(ctx context.Context, conn *pgx.Conn) (endangered bool, err error) {
	g.done, g.notes, g.undo = nil, nil, nil
	tx, err := conn.Begin(ctx)
	if err != nil {
		return false, err
	}
	endangered, err = g.changeAll(ctx, tx)
	if err == nil {
		err = ctx.Err() // the last moment to give up
	}
	ctx, cancel := finishing(ctx)
	defer cancel()
	if err != nil {
		_ = tx.Rollback(ctx) // the first error is the one that tells
		return false, err
	}
	if err = tx.Commit(ctx); err != nil {
		return false, g.explainCommit(err, endangered)
	}
	return endangered, nil
}

// explainCommit tells whether it is certain that nothing is changed. The server may have
// committed, and not have come to say so.
func (g *granting) explainCommit(err error, endangered bool) error {
	var server *pgconn.PgError
	if errors.As(err, &server) && server.SeverityUnlocalized == "ERROR" { // not FATAL
		return err
	}
	help := ""
	if endangered {
		help = "; if " + g.config.User + " is locked out then, as another one: " + g.undoSQL()
	}
	return decided("the connection broke at the very end (%s), and whether it is done is not known: run it again%s", serverText(err), help)
}

// decidedError is of the commit, or comes after it. What it says of what is changed is all that there is
// to say.
type decidedError struct{ error }

func decided(format string, args ...any) error { return decidedError{fmt.Errorf(format, args...)} }

// undoSQL is one transaction if it is sent as one. Where no user got rds_iam, it was the
// file that gave it to the administrator.
func (g *granting) undoSQL() string {
	if len(g.undo) == 0 {
		return "REVOKE " + rdsIAM + " FROM " + quoteName(g.config.User)
	}
	return strings.Join(g.undo, "; ")
}

// changeAll makes the users, gives them what they are to have, and runs the file.
func (g *granting) changeAll(ctx context.Context, tx pgx.Tx) (endangered bool, err error) {
	if _, err := isMember(ctx, tx); err != nil { // there is no such role
		return false, err
	}
	for _, user := range g.users {
		if err := g.changeUser(ctx, tx, user); err != nil {
			return false, err
		}
	}
	if g.level != nil {
		if err := g.changePrivileges(ctx, tx); err != nil {
			return false, err
		}
	}
	if g.init != nil {
		if err := g.runInit(ctx, tx); err != nil {
			return false, err
		}
	}
	after, err := isMember(ctx, tx)
	return after && !g.admin.hasToken && (len(g.undo) > 0 || g.init != nil), err
}

// isMember reports whether who is logged in is a member of rds_iam, in whatever way.
func isMember(ctx context.Context, tx pgx.Tx) (is bool, err error) {
	err = tx.QueryRow(ctx, "SELECT pg_catalog.pg_has_role(session_user, oid, 'member') FROM pg_catalog.pg_roles WHERE rolname = $1", rdsIAM).Scan(&is)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, errNoRDSIAM
	}
	return is, err
}

func (g *granting) changeUser(ctx context.Context, tx pgx.Tx, user string) error {
	var there, mayLogIn, isMember bool
	err := tx.QueryRow(ctx, `
		SELECT count(*) > 0, coalesce(bool_or(u.rolcanlogin), false), coalesce(bool_or(m.member IS NOT NULL), false)
		FROM pg_catalog.pg_roles u
		LEFT JOIN pg_catalog.pg_roles r ON r.rolname = $2
		LEFT JOIN pg_catalog.pg_auth_members m ON m.roleid = r.oid AND m.member = u.oid
		WHERE u.rolname = $1`, user, rdsIAM).Scan(&there, &mayLogIn, &isMember)
	switch {
	case err != nil:
		return err
	case there && !mayLogIn:
		// Somebody may have meant to keep it out.
		return fmt.Errorf("%s is there and may not log in (NOLOGIN); if it should, ALTER ROLE %s LOGIN", user, quoteName(user))
	case there && isMember:
		g.done = append(g.done, user+" already has "+rdsIAM)
		return nil
	case there:
		g.notes = append(g.notes, user+" was there already: if it has a password, that is of no use any more, and it logs in with tokens only")
		err = g.noteMembers(ctx, tx, user)
		g.undo = append(g.undo, "REVOKE "+rdsIAM+" FROM "+quoteName(user))
	default:
		_, err = tx.Exec(ctx, createSQL(user))
		g.done = append(g.done, "created role "+user)
		g.undo = append(g.undo, g.undoCreate(user))
	}
	if err != nil {
		return err
	}
	g.done = append(g.done, "granted "+rdsIAM+" to "+user)
	_, err = tx.Exec(ctx, grantSQL(user))
	return err
}

// undoCreate leaves a role that something may depend on; nobody logs in as that.
func (g *granting) undoCreate(user string) string {
	if g.level != nil || g.init != nil {
		return "REVOKE " + rdsIAM + " FROM " + quoteName(user)
	}
	return "DROP ROLE " + quoteName(user)
}

// noteMembers notes who gets rds_iam with user. Whether they have passwords only a
// superuser can see.
func (g *granting) noteMembers(ctx context.Context, tx pgx.Tx, user string) error {
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
	g.notes = append(g.notes, fmt.Sprintf("members of %s log in with tokens only from now on: %s", user, strings.Join(members, ", ")))
	return nil
}

// confirm sees whether the administrator is still let in, and undoes what locked it out
// if not.
// A member of a role that has rds_iam has it, too, and must log in with a token; from
// PostgreSQL 16 on who creates a role becomes a member of it, in a way that servers
// may or may not count here. Only the server knows.
func (g *granting) confirm(ctx context.Context, conn *pgx.Conn) error {
	login, cancel := finishing(ctx)
	defer cancel()
	again, err := g.connect(login)
	if err == nil {
		_ = again.Close(login)
		return nil
	}
	ctx, cancel = finishing(ctx)
	defer cancel()
	if _, failed := conn.Exec(ctx, g.undoSQL()); failed != nil {
		return decided("this may have locked out the administrator, who could not log in once more (%s), and could not be undone (%s); as another one: %s", serverText(err), serverText(failed), g.undoSQL())
	}
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || !isRefusal(refused) {
		return decided("%s, since it is not certain that the administrator can still log in (%s): run it again", g.undone(), serverText(err))
	}
	return decided("%s, since the administrator could not log in any more (%s): it is a member of a role that got %s; remove it from that, or let one do it who logs in with a token anyway (--admin-iam), or say that it may give up its password (--give-up-password %s)",
		g.undone(), serverText(err), rdsIAM, g.config.User)
}

// undone is what has become of it.
func (g *granting) undone() string {
	if g.level != nil || g.init != nil {
		return "the grants of " + rdsIAM + " are undone, the rest is not"
	}
	return "undone"
}
