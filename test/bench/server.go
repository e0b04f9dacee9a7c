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
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// bench holds the server and the measurements.
type bench struct {
	cluster  *aurora.Cluster
	programs string // the directory of PostgreSQL's programs
	dir      string // for files, removed with the cluster
	names    nameServer
	binary   string // the iamproxy to measure
	bouncer  string // the PgBouncer to measure
	targets  []target
	size     size
	rounds   int
	results  results
	round    int
	began    time.Time
	suffix   string   // of figures, in a condition
	limit    *cgroup  // of proxies, in a condition
	omitted  []string // measurements that the machine does not allow
	saying   string   // the current measurement
	progress io.Writer
}

// sessionsMost is the maximum of concurrent sessions of a target, and serverSessions that of
// the server: two proxies have idle sessions at the same time.
const (
	sessionsMost   = mostSessions + 300
	serverSessions = 2 * sessionsMost
)

// serverSettings allow many sessions with little memory. Logging of connections is off.
var serverSettings = map[string]string{
	"max_connections":                 strconv.Itoa(serverSessions),
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
	b = &bench{cluster: &aurora.Cluster{Settings: serverSettings}, binary: o.binary, bouncer: o.pgbouncer, targets: o.targets(),
		size: fullSize, rounds: o.rounds, results: results{}, began: time.Now(), progress: progress}
	if o.quick {
		b.size = quickSize
	}
	if b.bouncer == "" && slices.ContainsFunc(b.targets, func(t target) bool { return t.name == pgbouncerTarget }) {
		if b.bouncer, err = findPgbouncer(); err != nil {
			return nil, err
		}
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
	direct, err := b.open(ctx, target{name: directTarget})
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

// say prints the progress, with the time since the start.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "%v %s: %s\n", time.Since(b.began).Round(time.Second), b.saying, fmt.Sprintf(format, args...))
}

// note prints a figure and adds it.
func (b *bench) note(figure, target string, value float64) {
	figure += b.suffix
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

// quiet waits until the server has none of the measured sessions: a process that ends takes
// CPU time, too.
func (b *bench) quiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, clientLimit, fmt.Errorf("sessions remain after %v", clientLimit))
	defer cancel()
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

// clientLimit bounds a program at many times its duration.
const clientLimit = 2 * time.Minute

// clientRun is a run of a client.
type clientRun struct {
	out                 string
	took                time.Duration
	clientCPU, proxyCPU float64 // seconds
}

// client runs one of PostgreSQL's programs against a target.
func (b *bench) client(ctx context.Context, p *path, program string, args ...string) (clientRun, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, clientLimit, fmt.Errorf("not over after %v", clientLimit))
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(b.programs, program), args...)
	cmd.Dir = b.dir
	cmd.Env = p.env()
	// This process handles Ctrl-C and ends it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	before, err := cpu(p.pid)
	if err != nil {
		return clientRun{}, err
	}
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if err != nil {
		return clientRun{}, fmt.Errorf("%s: %s: %w: %s", p.name, program, cmp.Or(context.Cause(ctx), err), oneLine(out))
	}
	after, err := cpu(p.pid)
	return clientRun{out: string(out), took: took, clientCPU: ended(cmd), proxyCPU: after - before}, err
}

// filesMost is the number of file descriptors of the proxies, two for each session, and of
// this process, which has the clients of all idle sessions, and a few.
const filesMost = serverSessions + 500

// allowFiles raises the limit of file descriptors for child processes.
func allowFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Max = max(limit.Max, filesMost) // only root can raise it
	limit.Cur = filesMost
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("no %d open files: %w; raise the limit, as with ulimit -n", filesMost, err)
	}
	return nil
}
