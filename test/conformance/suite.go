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
	name     string // and that of the directory with its files
	database string
	run      func(ctx context.Context, p place) (*found, error)
}

// suites are those that try what passes between a client and a server. Debian
// ships the programs of the first two beside those of the server in bin. Their
// arguments are those of make installcheck-parallel and installcheck-prepared-txns.
func suites(bin string) []suite {
	pgxs := filepath.Join(bin, "../lib/pgxs/src/test")
	return []suite{
		{"regress", "regression", pgRegress(filepath.Join(pgxs, "regress/pg_regress"),
			"--bindir="+bin, "--schedule=parallel_schedule", "--max-concurrent-tests=20")},
		{"isolation", "isolation_regression", pgRegress(filepath.Join(pgxs, "isolation/pg_isolation_regress"),
			"--bindir="+bin, "--schedule=isolation_schedule", "prepared-transactions", "prepared-transactions-cic")},
		{"libpq_pipeline", "pipeline", pipeline},
	}
}

// found is what a run of a suite came to.
type found struct {
	results []result
	logins  int    // with a token that the server took
	output  string // what its program printed
	diffs   string // between what was expected and what came
}

// keep leaves what was found in a directory of that name.
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
	host, port, user, database string // what its clients connect to, and as whom
}

// command is one of PostgreSQL's programs, to run in the place as who owns it.
func (p place) command(ctx context.Context, program string, args ...string) (*exec.Cmd, error) {
	owner, err := ownerOf(p.dir)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "PGPASSFILE=/nonexistent"}
	// In a group of their own with all that they start, to be ended together.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: owner}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd, nil
}

// ownerOf is whom to be in order to own what is made in a directory; nil is
// oneself.
func ownerOf(dir string) (*syscall.Credential, error) {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return nil, err
	}
	stat := info.Sys().(*syscall.Stat_t)
	return &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}, nil
}

// createDatabase is what pg_regress does for a database that it makes itself.
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
