package grant

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/internal/text"
)

// logins are the roles that may log in, by OID: those that are members of rds_iam need a token.
// The administrator is left out, and so are memberships that it confers: verifyAdminLogin shows
// whether they count for the server.
type logins struct{ password, token map[uint32]string }

func readLogins(ctx context.Context, tx pgx.Tx) (logins, error) {
	all := logins{make(map[uint32]string), make(map[uint32]string)}
	rows, err := tx.Query(ctx, `
		WITH RECURSIVE token_only(oid) AS (
			SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1
			UNION SELECT m.member FROM pg_catalog.pg_auth_members m JOIN token_only t ON m.roleid = t.oid
				JOIN pg_catalog.pg_roles r ON r.oid = t.oid WHERE r.rolname <> session_user
		)
		SELECT r.oid, r.rolname::text, r.oid IN (SELECT oid FROM token_only)
		FROM pg_catalog.pg_roles r WHERE r.rolcanlogin AND r.rolname <> session_user`, rdsIAM)
	if err != nil {
		return all, err
	}
	var oid uint32
	var name string
	var needsToken bool
	_, err = pgx.ForEachRow(rows, []any{&oid, &name, &needsToken}, func() error {
		if needsToken {
			all.token[oid] = name
		} else {
			all.password[oid] = name
		}
		return nil
	})
	return all, err
}

// checkOtherLogins returns an *OtherLoginsError if roles need a token now that could log in with a
// password before, unless GiveUpPassword names them. checkPasswordLogins does not see what the
// script grants, and what other sessions have granted since.
func (r *grantRun) checkOtherLogins(ctx context.Context, tx pgx.Tx, before logins) error {
	now, err := readLogins(ctx, tx)
	if err != nil {
		return err
	}
	var ended, permitted []string
	for oid, name := range now.token {
		switch before, could := before.password[oid]; {
		case !could || slices.Contains(r.ending, before):
		case slices.Contains(r.GiveUpPassword, before):
			permitted = append(permitted, before)
		default:
			ended = append(ended, name)
		}
	}
	slices.Sort(ended)
	slices.Sort(permitted)
	if len(ended) > 0 {
		return &OtherLoginsError{ended}
	}
	if len(permitted) > 0 {
		r.addPasswordNote(permitted)
	}
	return nil
}

// OtherLoginsError is the refusal to end the password logins of roles that are no users of the
// Grant.
type OtherLoginsError struct{ roles []string }

func (e *OtherLoginsError) Error() string {
	return fmt.Sprintf("a membership would end the password logins of %s: it leads to %s; nothing is changed. To end these password logins: --give-up-password %s",
		quoteList(e.roles), rdsIAM, text.ShellQuote(text.FlagList(e.roles...)))
}
