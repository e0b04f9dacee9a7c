//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// bench is the server with all that is measured before it.
type bench struct {
	cluster  *aurora.Cluster
	programs string // the directory of PostgreSQL's
	dir      string // for our files, which goes with the cluster
	names    nameServer
	binary   string // the iamproxy to measure
	targets  []target
	size     size
	results  results
	points   map[string][]point // of scale, by target
	round    int
	saying   string // what is being measured
	progress io.Writer
}

// sessionsMost is how many there are at once at the most.
const sessionsMost = 5300

// serverSettings are for many sessions with little memory. Logging of connections is
// not what is to be measured.
var serverSettings = map[string]string{
	"max_connections":                 strconv.Itoa(sessionsMost),
	"max_locks_per_transaction":       "16",
	"shared_buffers":                  "256MB",
	"max_parallel_workers_per_gather": "0",
	"log_connections":                 "off",
}

// start starts the server and fills it.
func start(ctx context.Context, o options, progress io.Writer) (b *bench, err error) {
	if err := allowFiles(); err != nil {
		return nil, err
	}
	b = &bench{cluster: &aurora.Cluster{Settings: serverSettings}, binary: o.binary, size: fullSize, results: results{}, progress: progress}
	if o.quick {
		b.size = quickSize
	}
	b.targets = []target{{name: directTarget}, {name: pgbouncerTarget}, {name: iamproxyTarget, binary: o.binary}}
	if o.baseline != "" {
		b.targets = append(b.targets, target{name: baselineTarget, binary: o.baseline})
	}
	if b.programs, err = aurora.BinDir(); err != nil {
		return nil, err
	}
	b.saying = "the server"
	if err := b.cluster.Start(ctx); err != nil {
		return nil, err
	}
	if err := b.prepare(ctx); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// prepare makes what the measurements need.
func (b *bench) prepare(ctx context.Context) error {
	b.dir = filepath.Join(filepath.Dir(b.cluster.CAFile()), "bench")
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		return err
	}
	b.names = serveNames()
	direct, err := b.open(ctx, b.targets[0], sessionsMost)
	if err != nil {
		return err
	}
	b.say("pgbench -i")
	if _, err := b.client(ctx, direct, "pgbench", "-i", "-q", "-s", "10"); err != nil {
		return err
	}
	return direct.close()
}

func (b *bench) close() error {
	return errors.Join(b.names.close(), b.cluster.Close())
}

// say tells how far it is.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "%s: %s\n", b.saying, fmt.Sprintf(format, args...))
}

// note says a figure and keeps it.
func (b *bench) note(figure, target string, value float64) {
	b.say("%s %s: %.2f", target, figure, value)
	b.results.add(figure, target, b.round, value)
}

// admin runs statements as the superuser.
func (b *bench) admin(ctx context.Context, statements ...string) error {
	conn, err := b.cluster.Admin(ctx, aurora.Database)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// quiet waits until the server has none of the sessions that were measured: a process
// that ends takes CPU time, too.
func (b *bench) quiet(ctx context.Context) error {
	conn, err := b.cluster.Admin(ctx, aurora.Database)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var sessions int
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", aurora.IAMUser).Scan(&sessions); err != nil {
			return err
		}
		if sessions == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// clientLimit is how long a program may take, many times what it does.
const clientLimit = 2 * time.Minute

// client runs one of PostgreSQL's programs against a target, and returns what it said.
func (b *bench) client(ctx context.Context, p *path, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, clientLimit, fmt.Errorf("not over after %v", clientLimit))
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(b.programs, program), args...)
	cmd.Dir = b.dir
	cmd.Env = p.env()
	// Ctrl-C is for us, who then end it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w: %s", p.name, program, cmp.Or(context.Cause(ctx), err), oneLine(out))
	}
	return string(out), nil
}

// filesMost is what the proxies need: two sockets for each session, and a few.
const filesMost = 2*sessionsMost + 500

// allowFiles has the programs that are started from here open as many files as that.
func allowFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Max = max(limit.Max, filesMost) // which is root's to do
	limit.Cur = filesMost
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("no %d open files: %w; raise the limit, as with ulimit -n", filesMost, err)
	}
	return nil
}
