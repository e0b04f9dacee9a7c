//go:build ignore

// Sql tests database/sql with lib/pq, which open sets up.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"sync"

	"database/sql"
)

func main() {
	if err := test(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "github.com/lib/pq" {
			fmt.Printf(`{"framework": "database/sql", "version": %q, "driver": "lib/pq %s"}`+"\n", info.GoVersion[2:], module.Version[1:])
		}
	}
}

func test(ctx context.Context) error {
	db, err := open()
	if err != nil {
		return err
	}
	defer db.Close()
	if err := check(ctx, db, "app", "select current_user::text"); err != nil {
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
		if err := check(ctx, db, int64(want), "select count(*) from visits where id = $1", 11); err != nil {
			return err
		}
	}
	var pids sync.Map
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			var pid int
			_ = db.QueryRowContext(ctx, "select pg_backend_pid() from pg_sleep(0.2)").Scan(&pid)
			pids.Store(pid, true)
		})
	}
	group.Wait()
	n := 0
	pids.Range(func(any, any) bool { n++; return true })
	if n != 4 {
		return fmt.Errorf("%d connections, want 4", n)
	}
	return nil
}

func check[T comparable](ctx context.Context, db *sql.DB, want T, query string, args ...any) error {
	var got T
	if err := db.QueryRowContext(ctx, query, args...).Scan(&got); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s: got %v, want %v", query, got, want)
	}
	return nil
}
