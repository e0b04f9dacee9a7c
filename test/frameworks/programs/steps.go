//go:build ignore

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
)

// The steps of the programs for Go.

// scan runs a query that returns one value.
type scan func(ctx context.Context, dest any, query string, args ...any) error

// check returns an error unless a query returns the value.
func (s scan) check(ctx context.Context, want any, query string, args ...any) error {
	var got any
	if err := s(ctx, &got, query, args...); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s: got %v, want %v", query, got, want)
	}
	return nil
}

// checkPool returns an error unless four concurrent queries have four connections.
func (s scan) checkPool(ctx context.Context) error {
	const queries = 4
	pids, errs := make([]int, queries), make(chan error)
	for i := range queries {
		go func() { errs <- s(ctx, &pids[i], "select pg_backend_pid() from pg_sleep(0.2)") }()
	}
	var all error
	different := make(map[int]bool)
	for range queries {
		all = errors.Join(all, <-errs)
	}
	for _, pid := range pids {
		different[pid] = true
	}
	if all == nil && len(different) != queries {
		return fmt.Errorf("%d connections, want %d", len(different), queries)
	}
	return all
}

// report runs a test, and prints a report with the version of a module.
func report(test func(context.Context) error, module string, line func(version, goVersion string) string) {
	if err := test(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			fmt.Println(line(dependency.Version[1:], info.GoVersion[2:]))
		}
	}
}
