//go:build unix

// Drivers tests iamproxy with common drivers. It starts a PostgreSQL that verifies tokens
// as Aurora does and the iamproxy binary in front of it, runs a small program for each
// driver, without a password, and prints a table of results. It must run in the project's
// directory, which has the programs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/tools/mdtable"
)

func main() {
	binary := flag.String("binary", "bin/iamproxy", "the iamproxy to try")
	page := flag.String("write", "", "the page whose table is to be replaced, if nothing failed")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "drivers [-binary FILE] [-write PAGE] [DRIVER...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *binary, *page, flag.Args(), os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "drivers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary, file string, names []string, out io.Writer) (err error) {
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	if file != "" && len(names) > 0 {
		return errors.New("a page has all drivers: leave out -write or their names")
	}
	cluster := &aurora.Cluster{}
	if err := cluster.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	server, err := serverVersion(ctx)
	if err != nil {
		return err
	}

	rows := make([]row, len(chosen))
	for i, via := range routes(binary, cluster) {
		fmt.Fprintf(out, "%s:\n", via.name)
		tried, err := via.tryAll(ctx, chosen, out)
		if err != nil {
			return err
		}
		for n, r := range tried {
			switch {
			case i > 0:
				rows[n].add(via.name, r)
			case r.nothing():
				return fmt.Errorf("%s tried nothing", chosen[n].name)
			default:
				rows[n] = r
			}
		}
	}
	if slices.ContainsFunc(chosen, func(d driver) bool { return d.name == pgjdbc }) {
		if err := tryCertificates(ctx, binary, cluster); err != nil {
			return fmt.Errorf("%s with client certificates: %w", pgjdbc, err)
		}
		fmt.Fprintf(out, "%s with client certificates: ok\n", pgjdbc)
	}
	result := fmt.Sprintf("Through iamproxy to PostgreSQL %s:\n\n%s", server, table(rows))
	fmt.Fprintf(out, "\n%s", result)
	if n := countFailed(rows); n > 0 {
		return fmt.Errorf("%d of %d failed", n, len(rows))
	}
	if file != "" {
		return mdtable.Replace(file, "make drivers writes", result)
	}
	return nil
}
