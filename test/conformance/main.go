//go:build unix

// Conformance runs PostgreSQL's own tests against a server over its unix socket, and
// against servers just like it through iamproxy, with and without a pool. It compares the
// results, and exits with status 1 if any test differs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/tools/mdtable"
)

func main() {
	binary := flag.String("binary", "bin/iamproxy", "the iamproxy to test")
	cache := flag.String("cache", "build/conformance", "the directory for PostgreSQL's tests and their output")
	page := flag.String("write", "", "page of Markdown to write the results into, if all agree")
	flag.Parse()
	syscall.Umask(0o022) // the server reads files that this process writes
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *binary, *cache, *page, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary, cache, page string, out io.Writer) (err error) {
	kept, err := fetch(ctx, cache)
	if err != nil {
		return err
	}
	source, err := publish(kept)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(source)) }()
	bins, err := filepath.Glob(filepath.Join(source, "server/usr/lib/postgresql/*/bin"))
	if err != nil || len(bins) != 1 {
		return fmt.Errorf("%s has no PostgreSQL: run make clean, and try again", kept)
	}
	bin := bins[0]
	if err := os.Setenv("PG_BINDIR", bin); err != nil { // for the stand-in
		return err
	}
	same := true
	rows := [][]string{{"suite", "what it tests", "tests", "passed directly", "passed through iamproxy", "passed with `--pool`"}}
	for _, s := range suites(bin) {
		fmt.Fprintf(out, "\nPostgreSQL's %s tests, of %s\n", s.name, filepath.Base(kept))
		var direct []result
		row := []string{s.name, s.tests}
		for i, r := range routes(binary) {
			began := time.Now()
			found, err := r.run(ctx, s, source)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", s.name, r.name, err)
			}
			if err := found.keep(filepath.Join(cache, "results", s.name+"-"+r.name)); err != nil {
				return err
			}
			fmt.Fprintf(out, "%s: %s; %d logins with a token; %v\n",
				r.name, tally(found.results), found.logins, time.Since(began).Round(time.Second))
			if i == 0 {
				direct = found.results
				row = append(row, strconv.Itoa(len(direct)))
			}
			row = append(row, strconv.Itoa(passed(found.results)))
			if i == 0 {
				continue
			}
			same = compare(out, r, direct, found.results) && same
		}
		rows = append(rows, row)
	}
	if !same {
		return errors.New("results of PostgreSQL's tests differ; their output is in " + filepath.Join(cache, "results"))
	}
	if page == "" {
		return nil
	}
	text := fmt.Sprintf("Run on %s with %s:\n\n%s", time.Now().Format(time.DateOnly), filepath.Base(kept), mdtable.Table(rows))
	return mdtable.Replace(page, "make conformance writes the results", text)
}

// fetch returns the directory with a PostgreSQL and its tests, and makes it if necessary.
func fetch(ctx context.Context, cache string) (string, error) {
	installed, err := aurora.BinDir()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "sh", "test/conformance/source.sh", installed, cache)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("no tests to run: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// publish copies the directory to where the server's user can read it. A checkout of root
// may be unreadable.
func publish(kept string) (string, error) {
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		return "", err
	}
	err = errors.Join(os.Chmod(dir, 0o755), os.CopyFS(dir, os.DirFS(kept)))
	if err != nil {
		_ = os.RemoveAll(dir) // the first error is reported
	}
	return dir, err
}
