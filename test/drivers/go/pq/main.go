// Pq tries lib/pq, through database/sql.
package main

import (
	"context"
	"database/sql"
	"errors"

	"github.com/lib/pq"

	"github.com/iamproxy/iamproxy/test/drivers/go/steps"
)

func main() {
	steps.Report("lib/pq", "github.com/lib/pq", map[string]steps.Step{
		"query": opened(query), "transaction": opened(transaction), "copy": opened(copyIn), "cancel": opened(cancel),
	})
}

// opened gives body a pool. All of the connection is in PGHOST and the like.
func opened(body func(ctx context.Context, db *sql.DB) (string, error)) steps.Step {
	return func(ctx context.Context) (string, error) {
		db, err := sql.Open("postgres", "")
		if err != nil {
			return "", err
		}
		defer db.Close()
		return body(ctx, db)
	}
}

func query(ctx context.Context, db *sql.DB) (string, error) {
	prepared, err := db.PrepareContext(ctx, "select $1::int + $2::int, $3::text")
	if err != nil {
		return "", err
	}
	var sum int
	var text string
	if err := prepared.QueryRowContext(ctx, 40, 2, steps.Text).Scan(&sum, &text); err != nil {
		return "", err
	}
	return "", errors.Join(steps.Check(sum, 42), steps.Check(text, steps.Text))
}

func transaction(ctx context.Context, db *sql.DB) (string, error) {
	if _, err := db.ExecContext(ctx, "set client_min_messages = error; drop table if exists pq_tx; create table pq_tx (n int)"); err != nil {
		return "", err
	}
	for want, end := range []func(*sql.Tx) error{(*sql.Tx).Rollback, (*sql.Tx).Commit} {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return "", err
		}
		if _, err := tx.ExecContext(ctx, "insert into pq_tx values ($1)", 1); err != nil {
			return "", err
		}
		if err := end(tx); err != nil {
			return "", err
		}
		var seen int
		if err := db.QueryRowContext(ctx, "select count(*) from pq_tx").Scan(&seen); err != nil {
			return "", err
		}
		if err := steps.Check(seen, want); err != nil {
			return "", err
		}
	}
	return "", nil
}

func copyIn(ctx context.Context, db *sql.DB) (string, error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, "create temp table copied (n int, t text)"); err != nil {
		return "", err
	}
	in, err := tx.PrepareContext(ctx, "copy copied (n, t) from stdin")
	if err != nil {
		return "", err
	}
	for n := range steps.Lines {
		if _, err := in.ExecContext(ctx, n, steps.Line(n)); err != nil {
			return "", err
		}
	}
	if _, err := in.ExecContext(ctx); err != nil {
		return "", err
	}
	if err := in.Close(); err != nil {
		return "", err
	}
	var rows, different int
	var good bool
	if err := tx.QueryRowContext(ctx, steps.Copied).Scan(&rows, &different, &good); err != nil {
		return "", err
	}
	// lib/pq has no COPY to the client.
	return "in only", steps.Check([]any{rows, different, good}, []any{steps.Lines, steps.Lines, true})
}

func cancel(ctx context.Context, db *sql.DB) (string, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	var pid int
	if err := conn.QueryRowContext(ctx, "select pg_backend_pid()").Scan(&pid); err != nil {
		return "", err
	}
	sleeping, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go sleep(sleeping, conn, ended)
	err = steps.Until(func() (asleep bool, err error) {
		var n int
		err = db.QueryRowContext(ctx, steps.Asleep, pid).Scan(&n)
		return n == 1, err
	})
	stop() // lib/pq then sends the cancel
	slept := <-ended
	if err != nil {
		return "", err
	}
	var canceled *pq.Error
	if !errors.As(slept, &canceled) || canceled.Code != "57014" {
		return "", steps.Check(slept, "57014")
	}
	// It gives up the connection itself. The pool goes on.
	_, err = db.ExecContext(ctx, "select 1")
	return "", err
}

func sleep(ctx context.Context, conn *sql.Conn, ended chan<- error) {
	_, err := conn.ExecContext(ctx, steps.Sleep)
	ended <- err
}
