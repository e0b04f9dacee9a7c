//go:build ignore

// Pgxpool tests the pool of pgx, which open creates.
package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

func main() {
	report(test, "github.com/jackc/pgx/v5", func(version, _ string) string {
		return fmt.Sprintf(`{"framework": "pgxpool", "version": %q, "driver": "–"}`, version)
	})
}

var errRollback = errors.New("roll back")

func test(ctx context.Context) error {
	pool, err := open(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	s := scan(func(ctx context.Context, dest any, query string, args ...any) error {
		return pool.QueryRow(ctx, query, args...).Scan(dest)
	})
	if err := s.check(ctx, "app", "select current_user::text"); err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, "delete from visits where id = 10"); err != nil {
		return err
	}
	for want, end := range []error{errRollback, nil} {
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "insert into visits values ($1)", 10)
			return errors.Join(err, end)
		})
		if err != nil && !errors.Is(err, errRollback) {
			return err
		}
		if err := s.check(ctx, int64(want), "select count(*) from visits where id = $1", 10); err != nil {
			return err
		}
	}
	return s.checkPool(ctx)
}
