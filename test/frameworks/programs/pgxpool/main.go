//go:build ignore

// Pgxpool tests the pool of pgx, which open creates.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

func main() {
	if err := test(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "github.com/jackc/pgx/v5" {
			fmt.Printf(`{"framework": "pgxpool", "version": %q, "driver": "–"}`+"\n", module.Version[1:])
		}
	}
}

var errRollback = errors.New("roll back")

func test(ctx context.Context) error {
	pool, err := open(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := check(ctx, pool, "app", "select current_user::text"); err != nil {
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
		if err := check(ctx, pool, int64(want), "select count(*) from visits where id = $1", 10); err != nil {
			return err
		}
	}
	var pids sync.Map
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			var pid int
			_ = pool.QueryRow(ctx, "select pg_backend_pid() from pg_sleep(0.2)").Scan(&pid)
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

func check[T comparable](ctx context.Context, pool *pgxpool.Pool, want T, query string, args ...any) error {
	var got T
	if err := pool.QueryRow(ctx, query, args...).Scan(&got); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s: got %v, want %v", query, got, want)
	}
	return nil
}
