package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// initFile is SQL that the administrator wants to be run.
type initFile struct{ name, sql string }

// readInit returns nil where there is no name.
func readInit(name string) (*initFile, error) {
	if name == "" {
		return nil, nil
	}
	read := os.ReadFile
	if name == "-" {
		name, read = "standard input", func(string) ([]byte, error) { return io.ReadAll(os.Stdin) }
	}
	content, err := read(name)
	sql := strings.TrimPrefix(string(content), "\ufeff")
	switch {
	case err != nil:
		return nil, usagef("--init: %w", err)
	case strings.TrimSpace(sql) == "":
		return nil, usagef("--init %s: it is empty", name)
	case !utf8.ValidString(sql) || strings.ContainsRune(sql, 0):
		return nil, usagef("--init %s: it is not text in UTF-8", name)
	}
	return &initFile{name, sql}, nil
}

// runInit has the server run the file as a function would, so that nothing in it can end
// the transaction. Names mean what they do in --schema, not what the database's
// owner may have set.
func (g *granting) runInit(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "SET LOCAL search_path = "+quoteNames(g.schemas)); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "SELECT pg_catalog.set_config('iamproxy.init', $1, true)", g.init.sql); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "DO $$ BEGIN EXECUTE pg_catalog.current_setting('iamproxy.init'); END $$")
	if err == nil {
		_, err = tx.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE") // what would fail with the commit
	}
	if err != nil {
		return g.init.explain(err)
	}
	// What the file has set is not for what comes after it.
	if _, err := tx.Exec(ctx, "RESET ROLE; RESET search_path; SET LOCAL iamproxy.init = ''"); err != nil {
		return err
	}
	g.done = append(g.done, "ran "+g.init.name)
	return nil
}

// explain tells which line, and what the server said, but nothing of the file.
func (f *initFile) explain(err error) error {
	var server *pgconn.PgError
	if !errors.As(err, &server) || server.Code == "57014" { // query_canceled: the time is up
		return err
	}
	where := f.name
	offset, known := f.offset(server)
	if known {
		where = fmt.Sprintf("%s, line %d", f.name, 1+strings.Count(f.sql[:offset], "\n"))
	}
	advice := "nothing is changed"
	switch {
	case server.Code == "42601" && known && strings.HasPrefix(f.sql[offset:], `\`):
		advice = `that is for psql: --init takes SQL alone, without backslash commands; ` + advice
	case server.Code == "0A000" && strings.Contains(server.Message, "transaction commands"):
		advice = "leave out BEGIN, COMMIT and the like: all of it is one transaction anyway; " + advice
	case server.Code == "0A000" && strings.Contains(server.Message, "COPY"):
		advice = "there is no client to COPY from or to: use INSERT; " + advice
	case server.Code == "25001": // active_sql_transaction
		advice = "do that by itself, without --init; " + advice
	}
	return fmt.Errorf("%s: %s (%s); %s", where, withoutLiterals(server), server.Code, advice)
}

// offset is where in the file, in bytes, the server found it.
func (f *initFile) offset(server *pgconn.PgError) (offset int, known bool) {
	if server.InternalPosition < 1 || server.InternalQuery != f.sql {
		return 0, false
	}
	n := int32(1)
	for offset := range f.sql {
		if n == server.InternalPosition {
			return offset, true
		}
		n++
	}
	return len(f.sql), true
}

// withoutLiterals leaves out what may be a value of the file's, a password say: in errors
// of syntax, of names and of data.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func withoutLiterals(server *pgconn.PgError) string {
	switch code := server.Code; {
	case code == "42601", code == "42703", strings.HasPrefix(code, "22"):
		return quotedPart.ReplaceAllLiteralString(server.Message, `"..."`)
	default:
		return server.Message
	}
}

var quotedPart = regexp.MustCompile(`(?s)".*"`)
