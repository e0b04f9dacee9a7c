package grant

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/internal/text"
)

// Script is SQL that the administrator executes after the grants.
type Script struct{ name, sql string }

// ReadScript reads a file, or standard input if the name is "-".
func ReadScript(name string) (*Script, error) {
	read := os.ReadFile
	if name == "-" {
		name, read = "standard input", func(string) ([]byte, error) { return io.ReadAll(os.Stdin) }
	}
	content, err := read(name)
	sql := strings.TrimPrefix(string(content), "\ufeff")
	switch {
	case err != nil:
		return nil, fmt.Errorf("--init %s: could not read the file: %w", name, text.WithoutPath(err))
	case strings.TrimSpace(sql) == "":
		return nil, fmt.Errorf("--init %s: the file is empty", name)
	case !utf8.ValidString(sql) || strings.ContainsRune(sql, 0):
		return nil, fmt.Errorf("--init %s: the file is not text in UTF-8", name)
	}
	return &Script{name, sql}, nil
}

// runScript executes the script within a DO block, so that it cannot end the transaction. Names
// are resolved in Schemas, not in the search_path of the database.
func (r *grantRun) runScript(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "SET LOCAL search_path = "+quoteNames(r.Schemas)); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "SELECT pg_catalog.set_config('iamproxy.init', $1, true)", r.Script.sql); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "DO $$ BEGIN EXECUTE pg_catalog.current_setting('iamproxy.init'); END $$")
	if err == nil {
		_, err = tx.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE") // constraints that would fail at COMMIT
	}
	if err != nil {
		return r.Script.explain(err)
	}
	// Settings of the script do not apply to what follows.
	if _, err := tx.Exec(ctx, "RESET ROLE; RESET search_path; SET LOCAL iamproxy.init = ''"); err != nil {
		return err
	}
	r.addChange("ran %s", r.Script.name)
	return nil
}

// explain returns the line of an error and the message of the server, but no part of the script.
func (s *Script) explain(err error) error {
	var server *pgconn.PgError
	if !errors.As(err, &server) || server.Code == "57014" { // query_canceled: the time is up
		return err
	}
	where := s.name
	offset, known := s.errorOffset(server)
	if known {
		where = fmt.Sprintf("%s, line %d", s.name, 1+strings.Count(s.sql[:offset], "\n"))
	}
	advice := "nothing is changed"
	switch {
	case server.Code == "42601" && known && strings.HasPrefix(s.sql[offset:], `\`):
		advice = `this is a command of psql; --init takes SQL only; ` + advice
	case server.Code == "0A000" && strings.Contains(server.Message, "transaction commands"):
		advice = "remove BEGIN, COMMIT and similar commands: the whole file runs in one transaction; " + advice
	case server.Code == "0A000" && strings.Contains(server.Message, "COPY"):
		advice = "COPY from or to the client is not possible here: use INSERT; " + advice
	case server.Code == "25001": // active_sql_transaction
		advice = "run this statement separately, without --init; " + advice
	}
	return fmt.Errorf("%s: %s (%s); %s", where, withoutLiterals(server), server.Code, advice)
}

// errorOffset returns the position of an error in the script, in bytes.
func (s *Script) errorOffset(server *pgconn.PgError) (offset int, known bool) {
	if server.InternalPosition < 1 || server.InternalQuery != s.sql {
		return 0, false
	}
	n := int32(1)
	for offset := range s.sql {
		if n == server.InternalPosition {
			return offset, true
		}
		n++
	}
	return len(s.sql), true
}

// withoutLiterals returns the message of the server without quoted text where that may be a
// value of the script, such as a password: in errors of syntax, names and data.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func withoutLiterals(server *pgconn.PgError) string {
	switch code := server.Code; {
	case code == "42601", code == "42703", strings.HasPrefix(code, "22"):
		return quotedText().ReplaceAllLiteralString(server.Message, `"..."`)
	default:
		return server.Message
	}
}

var quotedText = text.Regexp(`(?s)".*"`)
