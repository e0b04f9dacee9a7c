//go:build unix

// Serve runs the stand-in for Aurora by itself, as in a container. Clients reach it at one
// port, and read its CA from a file. Tokens are for DefaultHost.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
)

func main() {
	listen := flag.String("listen", "*", "addresses to listen on, in the words of PostgreSQL's listen_addresses")
	port := flag.Int("port", aurora.DefaultPort, "port to listen on; 0: a free one")
	ca := flag.String("ca", "/ca/ca.pem", "file to leave the CA in, once the server takes logins")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *listen, *port, *ca, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "stand-in:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, listen string, port int, ca string, out io.Writer) (err error) {
	// The file is written when the server is up. An old one is removed first.
	if err := os.Remove(ca); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	cluster := &aurora.Cluster{
		ListenPort:  port,
		Settings:    map[string]string{"listen_addresses": listen},
		Certificate: aurora.Certificate{NotAfter: time.Now().AddDate(1, 0, 0)},
	}
	if err := cluster.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	if err := publish(cluster.CAFile(), ca); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s takes logins at %s; its CA is in %s\n", aurora.DefaultHost, cluster.Addr(), ca)
	<-ctx.Done()
	return nil
}

// publish copies a file atomically.
func publish(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to+".new", content, 0o644); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}
