//go:build unix

// Demo shows iamproxy on one machine, without an AWS account. It starts a PostgreSQL that
// verifies tokens as Aurora does, and runs the commands that lead to the first query of a
// new user. On a terminal it then runs until Ctrl-C. With -standin it starts only that
// PostgreSQL, for the steps of the README.
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
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/sidecar"
)

const (
	user   = "app"
	region = "eu-west-1" // of aurora.DefaultHost
	query  = `select current_user, current_database(), ssl, version from pg_stat_ssl where pid = pg_backend_pid()`
)

func main() {
	binary := flag.String("binary", "bin/iamproxy", "program to run")
	variables := flag.String("env", "build/demo.env", "file for the variables of the demo, while it runs")
	standin := flag.Bool("standin", false, "start only the PostgreSQL")
	flag.Parse()
	// A closed terminal sends SIGHUP.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	d := &demo{binary: *binary, variables: *variables, out: os.Stdout}
	var err error
	if *standin {
		err = d.standIn(ctx)
	} else {
		err = d.run(ctx, term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd())))
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo is one run.
type demo struct {
	binary    string
	variables string // the file
	out       io.Writer
	place     place
}

func (d *demo) run(ctx context.Context, stay bool) (err error) {
	defer func() { err = errors.Join(err, d.place.close()) }()
	if err := d.open(ctx); err != nil {
		return err
	}

	d.say("\n1. Create a database user that logs in with IAM tokens.\n")
	if err := d.iamproxy(ctx, d.adminPassword(), "grant", aurora.DefaultHost, "--user", user, "--database", aurora.Database, "--privileges", "readwrite"); err != nil {
		return err
	}

	d.say("\n2. Start iamproxy.\n")
	admin := freeAddress(ctx, "127.0.0.1:9090")
	proxy := &sidecar.Sidecar{
		Binary:  d.binary,
		Cluster: &d.place.cluster,
		Flags:   []string{"--listen", freeAddress(ctx, "127.0.0.1:5432"), "--admin", admin},
		Env:     d.place.endpoints(),
	}
	d.say("$ iamproxy " + strings.Join(proxy.Args(), " "))
	listen, err := proxy.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, proxy.Stop()) }()

	d.say("\n3. Connect without a password.\n")
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	conninfo := fmt.Sprintf("host=%s port=%s user=%s dbname=%s", host, port, user, aurora.Database)
	d.say("$ psql \"" + conninfo + "\" -x -c \"" + query + "\"")
	if err := d.psql(ctx, conninfo); err != nil {
		return fmt.Errorf("psql: %w", err)
	}
	if err := d.showToken(); err != nil {
		return err
	}
	if stay {
		return d.stay(ctx, conninfo, admin)
	}
	d.say("\nFind out why a login fails, step by step.\n")
	return d.iamproxy(ctx, nil, "check", aurora.DefaultHost, "--user", user, "--database", aurora.Database)
}

// standIn runs only the place, until ctx is done.
func (d *demo) standIn(ctx context.Context) (err error) {
	d.place.untouched = true
	defer func() { err = errors.Join(err, d.place.close()) }()
	if err := d.open(ctx); err != nil {
		return err
	}
	return d.untilDone(ctx, "Then run the steps of the README's quick start.")
}

func (d *demo) open(ctx context.Context) error {
	authentication := "on"
	if d.place.untouched {
		authentication = "off"
	}
	d.say("Starting a PostgreSQL server that verifies IAM tokens as Aurora does. IAM authentication is " + authentication +
		".\nThe only user is the administrator, with a password.")
	return d.place.open(ctx)
}

func (d *demo) say(text string) { fmt.Fprintln(d.out, text) }

// adminPassword returns the variable with the administrator's password.
func (d *demo) adminPassword() []string { return []string{"PGPASSWORD=" + d.place.password} }

// untilDone prints how to use the place in another terminal, and waits for ctx. Until then
// the file of the variables exists.
func (d *demo) untilDone(ctx context.Context, then string) (err error) {
	if err := os.MkdirAll(filepath.Dir(d.variables), 0o755); err != nil {
		return err
	}
	lines, err := d.exports()
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.variables, []byte(lines), 0o600); err != nil { // it has the password
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(d.variables)) }() // the variables are useless now
	d.say("\nIn each other terminal, in this directory, first run this:\n\n    . " + d.variables + "\n\n" + then +
		"\nWith via=ssm://" + bastion + ", iamproxy connects through a Session Manager session.\n\nPress Ctrl-C here to stop.")
	<-ctx.Done()
	return nil
}

// exports returns the shell commands that lead iamproxy and the AWS CLI here.
func (d *demo) exports() (string, error) {
	binary, err := filepath.Abs(d.binary)
	if err != nil {
		return "", err
	}
	var lines strings.Builder
	for _, variable := range append(d.place.lead(), append(d.adminPassword(), "AWS_DEFAULT_REGION="+region)...) {
		fmt.Fprintf(&lines, "export %s\n", variable)
	}
	fmt.Fprintf(&lines, "unset AWS_PROFILE\nexport PATH=%s:\"$PATH\"\n", text.ShellQuote(filepath.Dir(binary)))
	return lines.String(), nil
}

// iamproxy runs a command of iamproxy.
func (d *demo) iamproxy(ctx context.Context, env []string, args ...string) error {
	before := ""
	if env != nil {
		before = "PGPASSWORD=... "
	}
	d.say("$ " + before + "iamproxy " + strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, d.binary, args...)
	cmd.Env = append(append(sidecar.Environment(), d.place.lead()...), env...)
	cmd.Stdout, cmd.Stderr = d.out, d.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("iamproxy %s: %w", args[0], err)
	}
	return nil
}

func (d *demo) psql(ctx context.Context, conninfo string) error {
	cmd := exec.CommandContext(ctx, "psql", "--no-psqlrc", "--no-password", "--expanded", "--pset=pager=off", "--command="+query, conninfo)
	cmd.Env = sidecar.Environment()
	cmd.Stdout, cmd.Stderr = d.out, d.out
	return cmd.Run()
}

// showToken prints what the server saw of the token.
func (d *demo) showToken() error {
	verdicts := d.place.cluster.Verdicts()
	if len(verdicts) == 0 || !verdicts[len(verdicts)-1].OK {
		return fmt.Errorf("the server verified no token: %+v", verdicts)
	}
	last := verdicts[len(verdicts)-1]
	expiry := last.Claims.SignedAt.Add(last.Claims.Expires)
	d.say(fmt.Sprintf("The server verified a token of %d bytes. It is signed for user %q\nat %s,\nand valid until %s, %s from now.",
		last.TokenLength, last.Claims.User, last.Claims.Host,
		expiry.Local().Format(time.TimeOnly), time.Until(expiry).Round(time.Second)))
	return nil
}

// stay prints commands to try, and waits for the end.
func (d *demo) stay(ctx context.Context, conninfo, admin string) error {
	return d.untilDone(ctx, fmt.Sprintf(`Then try these:

    psql %q
        A session without a password. Any other PostgreSQL client works, too.

    iamproxy check %s --user %s --database %s
        Each step of a login, and what to do about the one that fails. Try it with --user missing.

    curl http://%s/readyz
        The health check. The status page is http://%[5]s/ in a browser.`,
		conninfo, aurora.DefaultHost, user, aurora.Database, admin))
}

// freeAddress returns the default address, or another one if that is in use.
func freeAddress(ctx context.Context, usual string) string {
	var config net.ListenConfig
	for _, address := range []string{usual, "127.0.0.1:0"} {
		if listener, err := config.Listen(ctx, "tcp", address); err == nil {
			defer listener.Close()
			return listener.Addr().String()
		}
	}
	return usual // iamproxy reports the error
}
