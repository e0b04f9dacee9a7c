//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// pgRegress runs pg_regress, or pg_isolation_regress, which differs in its client.
// --use-existing makes it use a running server and an existing database.
func pgRegress(program string, args ...string) func(context.Context, place) (*found, error) {
	return func(ctx context.Context, p place) (*found, error) {
		cmd, err := p.command(ctx, program, append([]string{
			"--use-existing", "--host=" + p.host, "--port=" + p.port, "--user=" + p.user, "--dbname=" + p.database,
			"--inputdir=.", "--outputdir=.", "--dlpath=../lib",
		}, args...)...)
		if err != nil {
			return nil, err
		}
		out, err := cmd.CombinedOutput()
		f := &found{output: string(out), results: parse(string(out))}
		switch {
		case ctx.Err() != nil:
			f.output += context.Cause(ctx).Error() + "\n"
		case err != nil && cmd.ProcessState.ExitCode() != 1: // some tests failed
			return nil, fmt.Errorf("%s: %w: %s", program, err, out)
		case len(f.results) == 0:
			return nil, fmt.Errorf("%s ran no test: %s", program, out)
		}
		diffs, err := os.ReadFile(filepath.Join(p.dir, "regression.diffs"))
		if err != nil && !errors.Is(err, os.ErrNotExist) { // it exists only if a test has failed
			return nil, err
		}
		f.diffs = string(diffs)
		for i := range f.results {
			// The client of the tests could not start.
			output, _ := os.ReadFile(filepath.Join(p.dir, "results", f.results[i].test+".out"))
			f.results[i].output = string(output)
		}
		return f, nil
	}
}

// pipeline runs libpq_pipeline as its t/001_libpq_pipeline.pl does: each of its tests, with
// libpq's trace of the messages as expected.
func pipeline(ctx context.Context, p place) (*found, error) {
	program := filepath.Join(p.dir, "libpq_pipeline")
	cmd, err := p.command(ctx, program, "tests")
	if err != nil {
		return nil, err
	}
	list, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	conninfo := fmt.Sprintf("host=%s port=%s user=%s dbname=%s", p.host, p.port, p.user, p.database)
	f := new(found)
	for _, test := range strings.Fields(string(list)) {
		args := []string{"-r", "700", test, conninfo}
		expected, err := os.ReadFile(filepath.Join(p.dir, "traces", test+".trace"))
		if err == nil { // others have no trace: it depends on timing
			args = append([]string{"-t", "trace"}, args...)
		}
		if cmd, err = p.command(ctx, program, args...); err != nil {
			return nil, err
		}
		out, err := cmd.CombinedOutput()
		var trace []byte
		if len(expected) > 0 {
			trace, _ = os.ReadFile(filepath.Join(p.dir, "trace")) // without a trace, the test fails
		}
		r := result{test: test, passed: err == nil && string(trace) == string(expected), output: string(trace)}
		f.results = append(f.results, r)
		f.output += fmt.Sprintf("%s: %v\n%s", test, err, out)
		if !r.passed {
			f.diffs += fmt.Sprintf("%s: %v\n%s\nexpected:\n%s\ngot:\n%s\n", test, err, out, expected, trace)
		}
	}
	return f, nil
}
