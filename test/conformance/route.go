//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/sidecar"
)

// suiteLimit bounds a suite at many times its duration: if a relay loses a message, a
// client may wait for ever.
const suiteLimit = 10 * time.Minute

// settings restore PostgreSQL's defaults where the stand-in trades durability for speed,
// and add what pg_regress sets.
var settings = map[string]string{
	"autovacuum":                "on",
	"synchronous_commit":        "on",
	"shared_buffers":            "128MB",
	"max_prepared_transactions": "2",
}

// route leads from a test to a server: through the iamproxy of binary, with flags, or
// directly if there is none.
type route struct {
	name, binary string
	flags        []string
	known        map[string]string // tests that must fail on this route, and why
}

// routes returns the routes to compare. The first one is the reference.
func routes(binary string) []route {
	return []route{
		{name: "direct"},
		{name: "proxied", binary: binary},
		{name: "pooled", binary: binary, flags: []string{"--pool", "20"}, // as many as there are tests at once
			known: map[string]string{"temp": "wants a process that has no temporary schema yet"}},
	}
}

// run runs a suite of source's against a new server.
func (r *route) run(ctx context.Context, s suite, source string) (f *found, err error) {
	cluster := &aurora.Cluster{Settings: settings}
	if err := cluster.Start(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()

	p, err := prepare(ctx, cluster, s, source)
	if err != nil {
		return nil, err
	}
	if r.binary != "" {
		proxy := &sidecar.Sidecar{Binary: r.binary, Cluster: cluster, Flags: append([]string{"--listen", "127.0.0.1:0"}, r.flags...)}
		listen, err := proxy.Start(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, proxy.Stop()) }()
		if p.host, p.port, err = net.SplitHostPort(listen); err != nil {
			return nil, err
		}
	}
	limited, cancel := context.WithTimeoutCause(ctx, suiteLimit, fmt.Errorf("not over after %v", suiteLimit))
	defer cancel()
	if f, err = s.run(limited, p); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for _, v := range cluster.Verdicts() {
		if v.OK {
			f.logins++
		}
	}
	if (f.logins > 0) != (r.binary != "") {
		return nil, fmt.Errorf("%d logins with a token: the tests did not take this route: %s", f.logins, f.output)
	}
	return f, nil
}

// prepare makes the suite's database, lets the superuser log in with a token, and returns
// the place for the direct route. Some tests need the superuser that owns the catalogs.
func prepare(ctx context.Context, cluster *aurora.Cluster, s suite, source string) (place, error) {
	admin, err := cluster.Admin(ctx, "postgres")
	if err != nil {
		return place{}, err
	}
	defer admin.Close(context.WithoutCancel(ctx))
	config := admin.Config()
	// Membership of a superuser must be granted to count in pg_hba.conf.
	for _, sql := range append(s.createDatabase(), "GRANT "+aurora.RDSRole+" TO "+config.User) {
		if _, err := admin.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return place{}, fmt.Errorf("%s: %w", sql, err)
		}
	}
	tests, err := unpack(cluster, s, source, config.Host)
	return place{
		dir:  filepath.Join(tests, s.name),
		host: config.Host, port: strconv.Itoa(int(config.Port)), user: config.User, database: s.database,
	}, err
}

// unpack copies the tests into the cluster's directory, owned by the server's user: the
// server reads and writes files of some tests.
func unpack(cluster *aurora.Cluster, s suite, source, socketDir string) (string, error) {
	dir := filepath.Join(filepath.Dir(cluster.CAFile()), "tests")
	for _, name := range []string{s.name, "lib"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(source, name))); err != nil {
			return "", err
		}
	}
	owner, err := ownerOf(socketDir)
	if err != nil || owner == nil {
		return dir, err
	}
	return dir, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, int(owner.Uid), int(owner.Gid)))
	})
}
