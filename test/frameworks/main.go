//go:build unix

// Frameworks runs the examples of docs/frameworks.md and the connection strings of
// docs/clients.md. It writes each example into a folder, next to a program that connects with
// it, through the iamproxy binary, to a PostgreSQL that verifies tokens as Aurora does. It
// must run in the project's directory.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/sidecar"
	"github.com/iamproxy/iamproxy/tools/mdtable"
)

// clientsPage has the connection strings.
const clientsPage = "docs/clients.md"

func main() {
	binary := flag.String("binary", "bin/iamproxy", "the iamproxy to test with")
	page := flag.String("page", "docs/frameworks.md", "the page with the examples")
	write := flag.Bool("write", false, "replace the page's table, if nothing failed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *binary, *page, *write, flag.Args(), os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "frameworks:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary, file string, write bool, names []string, out io.Writer) (err error) {
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	if write && len(names) > 0 {
		return errors.New("-write needs all frameworks: do not name any")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	cluster := &aurora.Cluster{}
	if err := cluster.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	if err := prepare(ctx, cluster); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "frameworks-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	addresses, stop, err := serve(ctx, binary, cluster, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()

	lines := [][]string{{"framework", "version", "driver", "TCP", "unix socket", "reports the cause"}}
	for _, f := range chosen {
		line, err := f.try(ctx, string(text), filepath.Join(dir, f.name), addresses)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		fmt.Fprintf(out, "%s: ok\n", f.name)
		lines = append(lines, line)
	}
	if len(names) == 0 {
		clients, err := os.ReadFile(clientsPage)
		if err != nil {
			return err
		}
		if err := tryStrings(ctx, string(clients), dir, addresses); err != nil {
			return err
		}
		fmt.Fprintln(out, "connection strings: ok")
	}
	table := mdtable.Table(lines)
	fmt.Fprintf(out, "\n%s", table)
	if write {
		return mdtable.Replace(file, "make drivers writes", table)
	}
	return nil
}

// prepare creates the user of the page and the table of the programs.
func prepare(ctx context.Context, cluster *aurora.Cluster) error {
	admin, err := cluster.Admin(ctx, aurora.Database)
	if err != nil {
		return err
	}
	defer admin.Close(ctx)
	_, err = admin.Exec(ctx, "CREATE ROLE app LOGIN IN ROLE "+aurora.RDSRole+"; CREATE TABLE visits (id int PRIMARY KEY); GRANT ALL ON visits TO app")
	return err
}

// addresses holds the listen addresses of the three proxies.
type addresses struct {
	port   string // of localhost
	socket string // folder of a unix socket
	broken string // port of one that does not reach the database
}

// serve starts the proxies, and returns a function that stops them.
func serve(ctx context.Context, binary string, cluster *aurora.Cluster, dir string) (at addresses, stop func() error, err error) {
	var started []*sidecar.Sidecar
	stop = func() error {
		var errs []error
		for _, s := range started {
			errs = append(errs, s.Stop())
		}
		return errors.Join(errs...)
	}
	start := func(env []string, flags ...string) (string, error) {
		s := &sidecar.Sidecar{Binary: binary, Cluster: cluster, Env: env, Flags: append(flags, "--admin", "off")}
		address, err := s.Start(ctx)
		if err == nil {
			started = append(started, s)
		}
		return address[strings.LastIndexByte(address, ':')+1:], err
	}
	at.socket = filepath.Join(dir, "run")
	var errs [3]error
	at.port, errs[0] = start(nil, "--listen", "localhost:0")
	_, errs[1] = start(nil, "--listen", "unix:"+at.socket)
	at.broken, errs[2] = start([]string{"IAMPROXY_VIA=127.0.0.1:1"}, "--listen", "localhost:0", "--connect-timeout", "1s")
	if err := errors.Join(errs[:]...); err != nil {
		return addresses{}, nil, errors.Join(err, stop())
	}
	return at, stop, nil
}
