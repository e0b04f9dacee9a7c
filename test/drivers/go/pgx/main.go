// Pgx tries pgx without database/sql.
package main

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/test/drivers/go/steps"
)

func main() {
	steps.Report("pgx", "github.com/jackc/pgx/v5", map[string]steps.Step{
		"query": connected(query), "transaction": connected(transaction), "copy": connected(copyBothWays), "cancel": connected(cancel),
	})
}

// connected gives body two connections. All of it is in PGHOST and the like.
func connected(body func(ctx context.Context, conn, other *pgx.Conn) error) steps.Step {
	return func(ctx context.Context) (string, error) {
		conn, err := pgx.Connect(ctx, "")
		if err != nil {
			return "", err
		}
		defer conn.Close(ctx)
		other, err := pgx.Connect(ctx, "")
		if err != nil {
			return "", err
		}
		defer other.Close(ctx)
		return "", body(ctx, conn, other)
	}
}

func query(ctx context.Context, conn, _ *pgx.Conn) error {
	var sum int
	var text string
	if err := conn.QueryRow(ctx, "select $1::int + $2::int, $3::text", 40, 2, steps.Text).Scan(&sum, &text); err != nil {
		return err
	}
	return errors.Join(steps.Check(sum, 42), steps.Check(text, steps.Text))
}

func transaction(ctx context.Context, conn, other *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "drop table if exists pgx_tx; create table pgx_tx (n int)"); err != nil {
		return err
	}
	for want, end := range []func(pgx.Tx, context.Context) error{pgx.Tx.Rollback, pgx.Tx.Commit} {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "insert into pgx_tx values ($1)", 1); err != nil {
			return err
		}
		if err := end(tx, ctx); err != nil {
			return err
		}
		var seen int
		if err := other.QueryRow(ctx, "select count(*) from pgx_tx").Scan(&seen); err != nil {
			return err
		}
		if err := steps.Check(seen, want); err != nil {
			return err
		}
	}
	return nil
}

func copyBothWays(ctx context.Context, conn, _ *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "create temp table copied (n int, t text)"); err != nil {
		return err
	}
	source := pgx.CopyFromSlice(steps.Lines, func(n int) ([]any, error) { return []any{n, steps.Line(n)}, nil })
	if _, err := conn.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"n", "t"}, source); err != nil {
		return err
	}
	var rows, different int
	var good bool
	if err := conn.QueryRow(ctx, steps.Copied).Scan(&rows, &different, &good); err != nil {
		return err
	}
	if err := steps.Check([]any{rows, different, good}, []any{steps.Lines, steps.Lines, true}); err != nil {
		return err
	}
	var want strings.Builder
	for n := range steps.Lines {
		want.WriteString(steps.Escaped(n))
	}
	var received bytes.Buffer
	if _, err := conn.PgConn().CopyTo(ctx, &received, "copy copied to stdout"); err != nil {
		return err
	}
	return steps.Check(received.String(), want.String())
}

func cancel(ctx context.Context, conn, other *pgx.Conn) error {
	ended := make(chan error, 1)
	go sleep(ctx, conn, ended)
	err := steps.Until(func() (asleep bool, err error) {
		var n int
		err = other.QueryRow(ctx, steps.Asleep, conn.PgConn().PID()).Scan(&n)
		return n == 1, err
	})
	err = errors.Join(err, conn.PgConn().CancelRequest(ctx))
	slept := <-ended
	if err != nil {
		return err
	}
	var canceled *pgconn.PgError
	if !errors.As(slept, &canceled) || canceled.Code != "57014" {
		return steps.Check(slept, "57014")
	}
	_, err = conn.Exec(ctx, "select 1")
	return err
}

func sleep(ctx context.Context, conn *pgx.Conn, ended chan<- error) {
	_, err := conn.Exec(ctx, steps.Sleep)
	ended <- err
}
