//go:build unix

// Demo shows iamproxy at work on one machine, without an AWS account: it starts
// a PostgreSQL that verifies tokens as Aurora does, the real iamproxy in front
// of it, and psql, which is given no password. On a terminal it then stays up
// until Ctrl-C.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/iamproxy/iamproxy/internal/sidecar"
	"github.com/iamproxy/iamproxy/internal/standin"
)

const query = `select current_user, current_database(), ssl, version from pg_stat_ssl where pid = pg_backend_pid()`

func main() {
	binary := flag.String("binary", "bin/iamproxy", "the iamproxy to show")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *binary, os.Stdout, term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd())))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary string, out io.Writer, stay bool) (err error) {
	fmt.Fprintln(out, "Starting a PostgreSQL that stands in for Aurora: it lets users in who have a valid IAM token.")
	cluster := &standin.Cluster{}
	if err := cluster.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()

	admin := freeAddress(ctx, "127.0.0.1:9090")
	proxy := &sidecar.Sidecar{Binary: binary, Cluster: cluster, Flags: []string{"--listen", freeAddress(ctx, "127.0.0.1:5432"), "--admin", admin}}
	fmt.Fprintf(out, "\n$ iamproxy %s\n", strings.Join(proxy.Args(), " "))
	listen, err := proxy.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, proxy.Stop()) }()

	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	conninfo := fmt.Sprintf("host=%s port=%s user=%s dbname=%s", host, port, standin.IAMUser, standin.Database)
	fmt.Fprintf(out, "\n$ psql \"%s\" -x -c \"%s\"   # no password anywhere\n", conninfo, query)
	if err := psql(ctx, out, conninfo); err != nil {
		return fmt.Errorf("psql: %w", err)
	}
	if err := showToken(cluster, out); err != nil {
		return err
	}
	if !stay {
		return nil
	}
	fmt.Fprintf(out, "\nStill up. In another terminal:\n\n    psql \"%s\"\n\nand in a browser how it is:\n\n    http://%s/\n\nCtrl-C ends it.\n", conninfo, admin)
	<-ctx.Done()
	return nil
}

func psql(ctx context.Context, out io.Writer, conninfo string) error {
	cmd := exec.CommandContext(ctx, "psql", "--no-psqlrc", "--no-password", "--expanded", "--pset=pager=off", "--command="+query, conninfo)
	cmd.Env = sidecar.Environment()
	cmd.Stdout, cmd.Stderr = out, out
	return cmd.Run()
}

// showToken tells what the server says of the token that psql never saw.
func showToken(cluster *standin.Cluster, out io.Writer) error {
	verdicts := cluster.Verdicts()
	if len(verdicts) == 0 || !verdicts[len(verdicts)-1].OK {
		return fmt.Errorf("the server verified no token: %+v", verdicts)
	}
	last := verdicts[len(verdicts)-1]
	expiry := last.Claims.SignedAt.Add(last.Claims.Expires)
	fmt.Fprintf(out, "The server got a token of %d bytes, verified it for %s at %s,\nand takes it until %s, %s from now.\n",
		last.TokenLength, last.Claims.User, last.Claims.Host,
		expiry.Local().Format(time.TimeOnly), time.Until(expiry).Round(time.Second))
	return nil
}

// freeAddress is the usual one, or another if something else listens there already.
func freeAddress(ctx context.Context, usual string) string {
	var config net.ListenConfig
	for _, address := range []string{usual, "127.0.0.1:0"} {
		if listener, err := config.Listen(ctx, "tcp", address); err == nil {
			defer listener.Close()
			return listener.Addr().String()
		}
	}
	return usual // and iamproxy says what is wrong with it
}
