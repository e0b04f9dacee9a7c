//go:build unix

// Conformance has PostgreSQL's own tests judge iamproxy: it runs them against a
// server over its unix socket, then against one just like it through iamproxy,
// and compares. It ends with 1 where the two differ in any test.
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
	"strings"
	"syscall"
	"time"

	"github.com/iamproxy/iamproxy/internal/standin"
)

func main() {
	binary := flag.String("binary", "bin/iamproxy", "the iamproxy to judge")
	cache := flag.String("cache", "build/conformance", "where PostgreSQL's tests are kept, and what they found is left")
	flag.Parse()
	syscall.Umask(0o022) // the server reads what is written here
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *binary, *cache, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary, cache string, out io.Writer) error {
	bin, err := standin.BinDir()
	if err != nil {
		return err
	}
	source, err := tests(ctx, bin, cache)
	if err != nil {
		return err
	}
	same := true
	for _, s := range suites(filepath.Join(bin, "../lib/pgxs/src/test")) {
		fmt.Fprintf(out, "\nPostgreSQL's %s tests, of %s\n", s.name, filepath.Base(source))
		var results [2][]result
		for i, w := range []way{{name: "direct"}, {name: "proxied", binary: binary}} {
			began := time.Now()
			found, err := w.run(ctx, s, source)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", s.name, w.name, err)
			}
			if err := found.keep(filepath.Join(cache, "results", s.name+"-"+w.name)); err != nil {
				return err
			}
			results[i] = found.results
			fmt.Fprintf(out, "%s: %s; %d logins with a token; %v\n",
				w.name, tally(found.results), found.logins, time.Since(began).Round(time.Second))
		}
		same = compare(out, results[0], results[1]) && same
	}
	if !same {
		return errors.New("PostgreSQL's tests find a difference; what they say is in " + filepath.Join(cache, "results"))
	}
	return nil
}

// tests has the directory with PostgreSQL's own tests for the server in bin,
// fetched now if they were not.
func tests(ctx context.Context, bin, cache string) (string, error) {
	cmd := exec.CommandContext(ctx, "sh", "internal/conformance/source.sh", bin, cache)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("no tests to run: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
