//go:build ignore

// Sql tests database/sql with lib/pq, which open sets up.
package main

import (
	"context"
	"database/sql"
	"fmt"
)

func main() {
	report(test, "github.com/lib/pq", func(version, goVersion string) string {
		return fmt.Sprintf(`{"framework": "database/sql", "version": %q, "driver": "lib/pq %s"}`, goVersion, version)
	})
}

func test(ctx context.Context) error {
	db, err := open()
	if err != nil {
		return err
	}
	defer db.Close()
	s := scan(func(ctx context.Context, dest any, query string, args ...any) error {
		return db.QueryRowContext(ctx, query, args...).Scan(dest)
	})
	if err := s.check(ctx, "app", "select current_user::text"); err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, "delete from visits where id = 11"); err != nil {
		return err
	}
	for want, end := range []func(*sql.Tx) error{(*sql.Tx).Rollback, (*sql.Tx).Commit} {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "insert into visits values ($1)", 11); err != nil {
			return err
		}
		if err := end(tx); err != nil {
			return err
		}
		if err := s.check(ctx, int64(want), "select count(*) from visits where id = $1", 11); err != nil {
			return err
		}
	}
	return s.checkPool(ctx)
}
