//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// suite is a set of PostgreSQL's tests.
type suite struct {
	name     string // of the suite, and of the directory with its files
	tests    string // a description for docs/conformance.md
	database string
	run      func(ctx context.Context, p place) (*found, error)
}

// suites are those that exercise the protocol. Debian ships the programs of the first two
// beside those of the server in bin. Their arguments are those of make
// installcheck-parallel and installcheck-prepared-txns.
func suites(bin string) []suite {
	pgxs := filepath.Join(bin, "../lib/pgxs/src/test")
	return []suite{
		{"regress", "SQL: `pg_regress` with `parallel_schedule`, up to 20 `psql` at once", "regression", pgRegress(filepath.Join(pgxs, "regress/pg_regress"),
			"--bindir="+bin, "--schedule=parallel_schedule", "--max-concurrent-tests=20")},
		{"isolation", "concurrent sessions: `pg_isolation_regress` with `isolation_schedule`, and two tests of prepared transactions", "isolation_regression", pgRegress(filepath.Join(pgxs, "isolation/pg_isolation_regress"),
			"--bindir="+bin, "--schedule=isolation_schedule", "prepared-transactions", "prepared-transactions-cic")},
		{"libpq_pipeline", "pipeline mode of libpq; for nine tests, the trace of all messages must be as expected", "pipeline", pipeline},
	}
}

// found is the result of a run of a suite.
type found struct {
	results []result
	logins  int    // with a token that the server accepted
	output  string // of the suite's program
	diffs   string // from the expected output
}

// keep writes the result to a directory of that name.
func (f *found) keep(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "regression.out"), []byte(f.output), 0o644),
		os.WriteFile(filepath.Join(dir, "regression.diffs"), []byte(f.diffs), 0o644))
}

// place is where a suite runs.
type place struct {
	dir                        string // with the suite's files
	host, port, user, database string // for the suite's clients
}

// command returns one of PostgreSQL's programs, to run in the place as its owner.
func (p place) command(ctx context.Context, program string, args ...string) (*exec.Cmd, error) {
	owner, err := ownerOf(p.dir)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "PGPASSFILE=/nonexistent"}
	// In its own process group, to be ended together.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: owner}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd, nil
}

// ownerOf returns the credential of a directory's owner, or nil if that is the current
// user.
func ownerOf(dir string) (*syscall.Credential, error) {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return nil, err
	}
	stat := info.Sys().(*syscall.Stat_t)
	return &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}, nil
}

// createDatabase returns the SQL by which pg_regress makes a database.
func (s *suite) createDatabase() []string {
	statements := []string{"CREATE DATABASE " + s.database + " TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"}
	for _, setting := range []string{
		"lc_messages TO 'C'", "lc_monetary TO 'C'", "lc_numeric TO 'C'", "lc_time TO 'C'",
		"bytea_output TO 'hex'", "timezone_abbreviations TO 'Default'",
	} {
		statements = append(statements, strings.Join([]string{"ALTER DATABASE", s.database, "SET", setting}, " "))
	}
	return statements
}
