package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/tls"
)

type grantCommand struct {
	Endpoint     string        `arg:"" help:"The database, by the name that leads to its writer."`
	User         []string      `help:"Database users to create, unless they are there, and to grant rds_iam." placeholder:"USER"`
	AdminUser    string        `help:"Who does it, with the password in PGPASSWORD or --password-file. Default: postgres." default:"postgres" placeholder:"USER"`
	PasswordFile string        `help:"File with the administrator's password, instead of PGPASSWORD." placeholder:"FILE"`
	Database     string        `help:"Database to log in to; users are the same in all. Default: postgres." default:"postgres" placeholder:"NAME"`
	Via          string        `help:"Address to dial instead of the endpoint, as for run." placeholder:"HOST:PORT"`
	CAFile       string        `name:"ca-file" help:"PEM file of the roots to trust instead of the built-in RDS roots and the system's." placeholder:"FILE"`
	Timeout      time.Duration `help:"Time for all of it." default:"30s"`
	DryRun       bool          `help:"Print the SQL and connect nowhere."`
}

// rdsIAM is the role whose members log in with tokens, and only so.
const rdsIAM = "rds_iam"

// maxName is the length of a name in PostgreSQL, in bytes. It cuts longer ones
// off, and would create another user than was asked for.
const maxName = 63

// Run creates the users and grants them rds_iam, all or none. What it did, and what
// was so already, it prints when it is certain.
func (c *grantCommand) Run(ctx context.Context, std streams) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	e, err := c.endpoint(ctx)
	if err != nil {
		return err
	}
	if c.DryRun {
		for _, user := range c.User {
			fmt.Fprintf(std.out, "%s; -- unless it is there\n%s; -- unless it has that\n", createSQL(user), grantSQL(user))
		}
		return nil
	}
	password, err := c.password()
	if err != nil {
		return err
	}
	roots, err := tls.Roots(c.CAFile)
	if err != nil {
		return usagef("--ca-file: %w", err)
	}
	config, err := adminConfig(e, c.AdminUser, password, roots, c.Timeout)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	g := &granting{config: config, users: c.User}
	if err := g.run(ctx); err != nil {
		return explainGrant(err, e, c.AdminUser, c.Timeout)
	}
	for _, line := range g.done {
		fmt.Fprintln(std.out, line)
	}
	for _, note := range g.notes {
		fmt.Fprintln(std.err, "iamproxy: note:", strings.Join(strings.Fields(note), " "))
	}
	return nil
}

// endpoint checks all that can be wrong without a connection.
func (c *grantCommand) endpoint(ctx context.Context) (endpoint, error) {
	e, err := parseEndpoint(c.Endpoint)
	if err != nil {
		return endpoint{}, err
	}
	if e, err = e.resolve(ctx, endpoint{database: c.Database, via: c.Via}); err != nil {
		return endpoint{}, err
	}
	for i, user := range c.User {
		c.User[i] = strings.TrimSpace(user) // as in "app, other"
	}
	if e.user != "" { // a key wins over its flag
		c.User = []string{e.user}
	}
	switch {
	case e.name.Kind == auth.DSQL:
		return endpoint{}, usagef("%s is Aurora DSQL, which has no rds_iam: there an administrator maps the user to an IAM role, with AWS IAM GRANT user TO 'arn:...'", e.host)
	case len(c.User) == 0:
		return endpoint{}, usagef("give --user: who is to log in with tokens")
	case c.Timeout <= 0:
		return endpoint{}, usagef("--timeout %s: must be more than 0", c.Timeout)
	}
	for _, user := range c.User {
		switch {
		case user == "":
			return endpoint{}, usagef("--user: a name in it is empty")
		case len(user) > maxName:
			return endpoint{}, usagef("--user %s: PostgreSQL's names have at most %d bytes", user, maxName)
		case strings.ContainsFunc(user, unicode.IsControl):
			return endpoint{}, usagef("--user %q: a name in it has control characters", user)
		case isPredefined(user):
			return endpoint{}, usagef("--user %s: that is a role of PostgreSQL's or AWS's own; give the name of a user of yours", user)
		case user == c.AdminUser:
			return endpoint{}, usagef("%s is who grants, and with rds_iam could not log in with a password any more; grant it to another user, or let another --admin-user do it", user)
		}
	}
	return e, nil
}

// isPredefined is about the roles that come with the database: with rds_iam, their
// members could not log in with passwords any more.
// https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Appendix.PostgreSQL.CommonDBATasks.Roles.html
func isPredefined(user string) bool {
	return strings.HasPrefix(user, "pg_") || strings.HasPrefix(user, "rds_") ||
		slices.Contains([]string{"rdsadmin", "rdsproxyadmin", "rdsrepladmin", "rdstopmgr"}, user)
}

// password is the administrator's. It is no flag, since others can read those.
func (c *grantCommand) password() (string, error) {
	password := os.Getenv("PGPASSWORD")
	if c.PasswordFile != "" {
		content, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return "", usagef("--password-file: %w", err)
		}
		if password = strings.TrimRight(string(content), "\r\n"); password == "" {
			return "", usagef("--password-file %s: it is empty", c.PasswordFile)
		}
	}
	if password == "" {
		return "", usagef("no password for %s: set PGPASSWORD, or give --password-file", c.AdminUser)
	}
	return password, nil
}

func createSQL(user string) string { return "CREATE ROLE " + quoteName(user) + " LOGIN" }

func grantSQL(user string) string { return "GRANT " + rdsIAM + " TO " + quoteName(user) }

func quoteName(name string) string { return pgx.Identifier{name}.Sanitize() }
