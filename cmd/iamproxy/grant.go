package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/tls"
)

type grantCommand struct {
	Endpoint string   `arg:"" help:"The database, by the name that leads to its writer."`
	User     []string `help:"Database users to create, unless they are there, and to grant rds_iam." placeholder:"USER"`

	Privileges string   `help:"What else the users get, in --schema of --database: readonly, readwrite or owner (may create there, too)." enum:",readonly,readwrite,owner" default:"" placeholder:"LEVEL"`
	Database   string   `help:"Database to log in to, which --privileges and --init are for; users are the same in all. Default: postgres, without those." placeholder:"NAME"`
	Schema     []string `help:"Schemas that --privileges is for, and where --init finds and makes things. Default: public." placeholder:"NAME"`
	Init       string   `help:"SQL file that the administrator runs after all that, in the same transaction, each time. - is standard input." placeholder:"FILE"`

	AdminUser      string `help:"Who does it, with the password in PGPASSWORD or --password-file. Default: postgres, or as --admin-secret says." placeholder:"USER"`
	PasswordFile   string `help:"File with the administrator's password, instead of PGPASSWORD." placeholder:"FILE"`
	AdminSecret    string `help:"ARN of the administrator's secret in Secrets Manager, or managed: the one that RDS keeps for this database." placeholder:"ARN"`
	AdminIAM       bool   `name:"admin-iam" help:"The administrator logs in with a token."`
	GiveUpPassword string `help:"Name --admin-user here, too, to let it get rds_iam: it will log in with tokens only." placeholder:"USER"`
	signing

	reaching
	Timeout time.Duration `help:"Time for all of it." default:"30s"`
	DryRun  bool          `help:"Print the SQL and connect nowhere."`
}

// rdsIAM is the role whose members log in with tokens, and only so.
const rdsIAM = "rds_iam"

// maxName is the length of a name in PostgreSQL, in bytes. It cuts longer ones
// off, and would create another user than was asked for.
const maxName = 63

// Run creates the users and grants them rds_iam and privileges, all or none. What it
// did, and what was so already, it prints when it is certain.
func (c *grantCommand) Run(ctx context.Context, std streams) error {
	e, err := c.endpoint(ctx)
	if err != nil {
		return err
	}
	// While it waits for whoever writes these, a signal ends it as any program.
	file, err := readInit(c.Init)
	if err != nil {
		return err
	}
	g := &granting{users: c.User, level: levels[c.Privileges], schemas: c.Schema, init: file}
	if c.DryRun {
		g.print(std.out, e.database, cmp.Or(c.AdminUser, masterUser))
		return nil
	}
	roots, err := tls.Roots(c.CAFile)
	if err != nil {
		return usagef("--ca-file: %w", err)
	}
	password, err := c.password(forgetLibpq())
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if g.admin, err = c.administrator(ctx, e, password); err != nil {
		return err
	}
	if err := c.checkAdmin(g.admin.user); err != nil {
		return err
	}
	ways := &forwards{}
	defer ways.stop()
	dial, err := ways.to(e)
	if err != nil {
		return err
	}
	if err := g.reach(e.server(dial, roots), e.database, c.Timeout); err != nil {
		return err
	}
	g.givesUpPassword = c.GiveUpPassword != ""
	err = g.run(ctx)
	err = g.explain(ctx, err, e, c.Timeout)
	stop() // a second signal ends it as any program
	if err != nil {
		return err
	}
	for _, line := range g.done {
		fmt.Fprintln(std.out, text.OneLine(line))
	}
	for _, note := range g.notes {
		fmt.Fprintln(std.err, "iamproxy: note:", text.OneLine(note))
	}
	return nil
}

// endpoint checks all that can be wrong without a connection.
func (c *grantCommand) endpoint(ctx context.Context) (endpoint, error) {
	e, err := parseEndpoint(c.Endpoint)
	if err != nil {
		return endpoint{}, err
	}
	flags := c.flags()
	flags.database, flags.via = c.Database, c.Via
	if e, err = e.resolve(ctx, flags); err != nil {
		return endpoint{}, err
	}
	trim(c.User) // as in "app, other"
	trim(c.Schema)
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
	for _, check := range []func() error{c.checkUsers, func() error { return c.checkDatabase(e) }, c.checkLogin} {
		if err := check(); err != nil {
			return endpoint{}, err
		}
	}
	e.database = cmp.Or(e.database, "postgres")
	return e, checkName("--database", e.database)
}

func trim(names []string) {
	for i, name := range names {
		names[i] = strings.TrimSpace(name)
	}
}

func (c *grantCommand) checkUsers() error {
	for _, user := range c.User {
		if err := checkName("--user", user); err != nil {
			return err
		}
		if isPredefined(user) {
			return usagef("--user %s: that is a role of PostgreSQL's or AWS's own; give the name of a user of yours", user)
		}
	}
	return nil
}

// checkName refuses what PostgreSQL would take for another name, and what would make
// two lines of one.
func checkName(flag, name string) error {
	switch {
	case name == "":
		return usagef("%s: a name in it is empty", flag)
	case len(name) > maxName:
		return usagef("%s %s: PostgreSQL's names have at most %d bytes", flag, name, maxName)
	case strings.ContainsFunc(name, unicode.IsControl):
		return usagef("%s %q: a name in it has control characters", flag, name)
	}
	return nil
}

// checkDatabase wants the database named where something is done in it: few mean the one
// that is called postgres.
func (c *grantCommand) checkDatabase(e endpoint) error {
	switch inDatabase := c.Privileges != "" || c.Init != ""; {
	case !inDatabase && len(c.Schema) > 0:
		return usagef("--schema says where --privileges and --init are: give one of them")
	case !inDatabase:
		return nil
	case e.database == "":
		return usagef("give --database: privileges and --init are for one database")
	}
	if len(c.Schema) == 0 {
		c.Schema = []string{"public"}
	}
	for _, schema := range c.Schema {
		if err := checkName("--schema", schema); err != nil {
			return err
		}
		if strings.HasPrefix(schema, "pg_") || schema == "information_schema" {
			return usagef("--schema %s: that is PostgreSQL's own; give one of yours", schema)
		}
	}
	return nil
}

// checkLogin wants to be told one way in which the administrator logs in.
func (c *grantCommand) checkLogin() error {
	switch {
	case c.AdminIAM && c.AdminSecret != "":
		return usagef("--admin-iam and --admin-secret: give one; the administrator has a token or a password")
	case c.AdminIAM && c.PasswordFile != "":
		return usagef("--admin-iam and --password-file: give one; the administrator has a token or a password")
	case c.AdminSecret != "" && c.PasswordFile != "":
		return usagef("--admin-secret and --password-file: give one of them")
	case c.AdminUser != "" || c.AdminSecret == "":
		return c.checkAdmin(cmp.Or(c.AdminUser, masterUser))
	default:
		return nil // the secret tells
	}
}

// checkAdmin does not let the administrator lock itself out unless it was told twice.
func (c *grantCommand) checkAdmin(admin string) error {
	if err := checkName("--admin-user", admin); err != nil {
		return err
	}
	switch {
	case c.GiveUpPassword != "" && c.GiveUpPassword != admin:
		return usagef("--give-up-password %s: it is %s who grants, and could lose its password", c.GiveUpPassword, admin)
	case c.GiveUpPassword == "" && !c.AdminIAM && slices.Contains(c.User, admin):
		return usagef("%s is who grants, and with rds_iam could not log in with a password any more; grant it to another user, let another --admin-user do it, or say that you mean it with --give-up-password %s", admin, admin)
	default:
		return nil
	}
}

// isPredefined is about the roles that come with the database: with rds_iam, their
// members could not log in with passwords any more.
// https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Appendix.PostgreSQL.CommonDBATasks.Roles.html
func isPredefined(user string) bool {
	return strings.HasPrefix(user, "pg_") || strings.HasPrefix(user, "rds_") ||
		slices.Contains([]string{"rdsadmin", "rdsproxyadmin", "rdsrepladmin", "rdstopmgr"}, user)
}
